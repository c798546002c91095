"""Images per second of the training project ÷ those of a straightforward loop, and the share of what this
CPU can do.

Both loops are started once and then take turns; the one that waits is stopped (SIGSTOP), its data-loader
workers too, so that it neither takes time from the other nor gets ahead with its batches meanwhile.

What the CPU can do is what its fastest matrix product does, in float32 or bfloat16: a product in which all
data is close by. A network's share of that is below 1, because it also has to fetch what it computes with.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from benchmarks import timing
from benchmarks.figures import Bound, Figure
from benchmarks.scene import Scene

LOOP = Path(__file__).parent / "programs" / "resnet_loop.py"
PATIENCE = 180.0  # seconds for torch to be imported and a first step
FLOPS = {"resnet18": 3.33e9, "resnet50": 7.79e9}  # of an image, forward and backward
SIZE = 2048  # of the matrices


class Turns(NamedTuple):
    """What a loop does: a model in batches of that size, so many times so many steps."""

    model: str
    batch: int
    rounds: int
    steps: int


class Loop(NamedTuple):
    lines: TextIO
    group: int  # of processes


def measure(scene: Scene) -> list[Figure]:
    if importlib.util.find_spec("torch") is None:
        scene.notes.append("torch is not installed: nothing to train")
        return []
    whole = (Turns("resnet18", 128, 6, 3), Turns("resnet50", 128, 4, 1))
    return [
        figure
        for turns in scene.times(whole, (Turns("resnet18", 8, 1, 1),))
        for figure in _model(scene, turns)
    ]


def _model(scene: Scene, turns: Turns) -> list[Figure]:
    model, _, rounds, steps = turns
    with _loops(scene, turns) as loops:
        actions = {way: _turn(loops, way, steps) for way in ("reference", "ours")}
        actions["peak"] = _matrix_product
        taken = timing.alternate(rounds, actions)
    speed = timing.median(taken["ours"])
    peak = timing.median(taken["peak"])
    share = 100 * speed * FLOPS[model] / peak
    return [
        Figure(
            what=f"{model}: images per second",
            value=speed,
            unit="/s",
            others={"straightforward loop": timing.median(taken["reference"])},
            ratio=timing.ratio(taken["ours"], taken["reference"]),
            bound=Bound(limit=2.5, of="ratio", least=True),
            samples=rounds,
            spread=timing.quartiles(taken["ours"]),
        ),
        Figure(
            what=f"{model}: share of this CPU's fastest matrix product",
            value=share,
            unit="%",
            note=f"{peak / 1e9:.0f} GFLOP/s",
        ),
    ]


def _matrix_product() -> float:
    """Operations per second, of the best of a few."""
    import torch

    def seconds(kind: torch.dtype) -> float:
        left, right = (torch.randn(SIZE, SIZE).to(kind) for _ in range(2))
        return min(timing.timed(lambda: left @ right) for _ in range(8))

    return 2 * SIZE**3 / min(map(seconds, (torch.float32, torch.bfloat16)))


@contextlib.contextmanager
def _loops(scene: Scene, turns: Turns) -> Iterator[dict[str, Loop]]:
    """Both, started one after the other, warm and stopped."""
    path = scene.folder / f"{turns.model}.socket"
    threads = str(len(os.sched_getaffinity(0)))
    env = os.environ | {"BENCHMARK_DIR": str(scene.folder), "OMP_NUM_THREADS": threads}
    loops: dict[str, Loop] = {}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(os.fspath(path))
        server.listen()
        server.settimeout(PATIENCE)
        for way in ("reference", "ours"):
            argv = [sys.executable, str(LOOP), str(path), way, turns.model, str(turns.batch)]
            process = subprocess.Popen(
                argv, env=env, cwd=scene.folder, start_new_session=True, stdout=subprocess.DEVNULL
            )
            stack.callback(_end, process)
            connection, _ = server.accept()
            stack.enter_context(connection)
            lines = connection.makefile("rw")
            json.loads(lines.readline())
            os.killpg(process.pid, signal.SIGSTOP)
            loops[way] = Loop(lines, process.pid)
        yield loops


def _turn(loops: dict[str, Loop], way: str, steps: int) -> timing.Action:
    def take() -> float:
        lines, group = loops[way]
        os.killpg(group, signal.SIGCONT)
        try:
            print(steps, file=lines, flush=True)
            return float(lines.readline())
        finally:
            os.killpg(group, signal.SIGSTOP)

    return take


def _end(process: subprocess.Popen[bytes]) -> None:
    """The loop and its workers."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
