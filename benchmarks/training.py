"""Images per second under TrainForge ÷ by hand: the same loop, on all cores, in many short turns.

Both loops are started once, under TrainForge as a job that reports every step, by hand without a line of
TrainForge in it. Then they take turns, and each waits while the other works, so that a busy machine
or a hot processor meets both. In the turns by hand, daemon and shim are stopped (SIGSTOP): whatever they
do counts against TrainForge alone.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from benchmarks import processes, timing
from benchmarks.figures import Bound, Figure
from benchmarks.scene import Scene, tfctl
from tests.daemon.real import RealDaemon

LOOP = Path(__file__).parent / "programs" / "training_loop.py"
PATIENCE = 120.0  # seconds for torch to be imported
OURS, BY_HAND = "reporting", "by-hand"


def measure(scene: Scene) -> list[Figure]:
    if importlib.util.find_spec("torch") is None:
        scene.notes.append("torch is not installed: nothing to train")
        return []
    turns, seconds = scene.times((40, 2.0), (3, 0.3))
    daemon = scene.daemon(gpus=1)
    with _loops(scene, daemon) as loops:
        ours = [daemon.pid, *_shims(daemon)]
        before = sum(map(processes.cpu_seconds, ours))
        taken = _take_turns(loops, ours, turns, seconds)
        used = sum(map(processes.cpu_seconds, ours)) - before
    ratio = timing.ratio(taken[OURS], taken[BY_HAND])
    share = 100 * used / (seconds * (turns + 1))
    return [
        Figure(
            what="images per second, 1 rank, a report each step",
            value=timing.median(taken[OURS]),
            unit="/s",
            others={"by hand": timing.median(taken[BY_HAND])},
            ratio=ratio,
            bound=Bound(limit=0.99, of="ratio", least=True),
            samples=turns,
            spread=timing.quartiles(taken[OURS]),
        ),
        Figure(what="daemon and shim meanwhile, share of a core", value=share, unit="%"),
    ]


@contextlib.contextmanager
def _loops(scene: Scene, daemon: RealDaemon) -> Iterator[dict[str, TextIO]]:
    """Both, started and warm: what to write to and read from."""
    path = scene.folder / "turns"
    script = shutil.copy(LOOP, scene.folder)
    env = scene.environment(daemon) | {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(os.fspath(path))
        server.listen()
        server.settimeout(PATIENCE)
        argv = [sys.executable, str(script), str(path), BY_HAND]
        by_hand = subprocess.Popen(argv, env=env, cwd=scene.folder)
        stack.callback(_end, by_hand)
        submit = tfctl("submit", str(script), "--gpu", "1", "--", str(path), OURS)
        timing.run(submit, env, scene.folder)
        loops: dict[str, TextIO] = {}
        for _ in range(2):
            connection, _address = server.accept()
            stack.enter_context(connection)
            lines = connection.makefile("rw")
            loops[json.loads(lines.readline())["way"]] = lines
        yield loops


def _take_turns(
    loops: dict[str, TextIO], ours: Sequence[int], turns: int, seconds: float
) -> dict[str, list[float]]:
    def by_hand() -> float:
        with _stopped(ours):
            return _turn(loops[BY_HAND], seconds)

    return timing.alternate(turns, {BY_HAND: by_hand, OURS: lambda: _turn(loops[OURS], seconds)})


def _turn(lines: TextIO, seconds: float) -> float:
    print(seconds, file=lines, flush=True)
    return float(lines.readline())


def _shims(daemon: RealDaemon) -> list[int]:
    paths = daemon.state_dir.glob("jobs/*/attempts/*/shim.json")
    return [int(json.loads(path.read_text())["pid"]) for path in paths]


@contextlib.contextmanager
def _stopped(pids: Sequence[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _end(process: subprocess.Popen[bytes]) -> None:
    processes.kill([process.pid])
    process.wait()
