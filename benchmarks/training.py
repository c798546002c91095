"""Images per second under TrainForge ÷ by hand: the same loop, on all cores, in many short turns.

Two processes that run the same loop differ by 5 to 8 percent from each other for as long as they live (where
their memory lies, say), which is more than what is looked for. So one process takes both kinds of turn: as a
job that reports every step; and by hand, without a report and with daemon and shim stopped (SIGSTOP).
Whatever those do counts against TrainForge alone, and a busy machine or a hot processor meets both.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
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
    turns, seconds = scene.times((60, 2.0), (3, 0.3))
    daemon = scene.daemon(gpus=1)
    with _loop(scene, daemon) as loop:
        ours = [daemon.pid, *_shims(daemon)]
        before = sum(map(processes.cpu_seconds, ours))
        taken = _take_turns(loop, ours, turns, seconds)
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
def _loop(scene: Scene, daemon: RealDaemon) -> Iterator[TextIO]:
    """Running as a job, and warm: what to write to and read from."""
    path = scene.folder / "turns"
    script = shutil.copy(LOOP, scene.folder)
    env = scene.environment(daemon) | {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))}
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(path))
        server.listen()
        server.settimeout(PATIENCE)
        timing.run(tfctl("submit", str(script), "--gpu", "1", "--", str(path)), env, scene.folder)
        connection, _address = server.accept()
        with connection, connection.makefile("rw") as lines:
            yield lines


def _take_turns(loop: TextIO, ours: Sequence[int], turns: int, seconds: float) -> dict[str, list[float]]:
    def by_hand() -> float:
        with _stopped(ours):
            return _turn(loop, BY_HAND, seconds)

    return timing.alternate(turns, {BY_HAND: by_hand, OURS: lambda: _turn(loop, OURS, seconds)})


def _turn(lines: TextIO, way: str, seconds: float) -> float:
    print(way, seconds, file=lines, flush=True)
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
