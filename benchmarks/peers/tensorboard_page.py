"""TensorBoard with the series that the jobs report: how long until its first curve, and what it takes."""

from __future__ import annotations

import importlib.util
import math
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.browser import Browser, Memory
from benchmarks.scene import Scene

PATIENCE = 120.0  # s
SETTLED = 6.0  # s, as long as our page is watched
CURVE = "scalar-card canvas, scalar-card svg path, tf-line-chart-data-loader canvas"


class Board(NamedTuple):
    """`seconds` from asking an already started TensorBoard for its page to the first line in it: starting it,
    and reading the files, is not counted. `memory` of the browser a few seconds later."""

    seconds: float
    memory: Memory


def first_curve(scene: Scene, browser: Browser, runs: int, series: int, steps: int) -> Board | None:
    """None where it is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        scene.notes.append("TensorBoard is not installed")
        return None
    folder = scene.folder / "board"
    for run in range(runs):
        _write(folder / f"run-{run}", series, steps)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)]
    board = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _answers(port)
        seconds = browser.open(f"http://127.0.0.1:{port}/", CURVE)
        time.sleep(SETTLED)
        return Board(seconds, browser.memory())
    finally:
        board.kill()
        board.wait()


def _answers(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("TensorBoard did not answer")


def _write(folder: Path, series: int, steps: int) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folder.mkdir(parents=True)
    writer = EventFileWriter(str(folder))
    for step in range(1, steps + 1):
        level = 4 * math.exp(-step / 200)
        values = [
            Summary.Value(tag=f"metric_{number}", simple_value=level * number + random.gauss(0, 0.1))
            for number in range(series)
        ]
        writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
    writer.close()
