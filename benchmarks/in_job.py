"""What a job pays for what it imports: a report, and the time that a save keeps training waiting.

Both are measured by programs of their own (`programs/`), as in a job.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import msgspec

from benchmarks.figures import Bound, Figure
from benchmarks.scene import Scene

PROGRAMS = Path(__file__).parent / "programs"
PEER = "SummaryWriter.add_scalar, 3 calls"


class Report(msgspec.Struct):
    """A line of `report_overhead`, in microseconds a call."""

    call: str
    least_us: float
    median_us: float


class Save(msgspec.Struct):
    """What `checkpoint_overhead` prints. `share`: of a plain `torch.save` of the same state, the median of
    pairs; `shares`: of each pair, in order of size."""

    state_mb: float
    torch_save_s: float
    save_blocks_s: float
    share: float
    shares: tuple[float, ...]
    step_s: float
    step_beside_writing_s: float


def measure(scene: Scene) -> list[Figure]:
    lines = map(msgspec.json.Decoder(Report).decode, _run("report_overhead", scene).splitlines())
    calls = {line.call: line.median_us for line in lines}
    peer = {PEER: calls.pop(PEER)} if PEER in calls else {}
    figures = [
        Figure(
            what=call,
            value=micros,
            unit="µs",
            others=dict(peer),
            ratio=micros / peer[PEER] if peer else None,
            bound=Bound(limit=20),
        )
        for call, micros in calls.items()
    ]
    if importlib.util.find_spec("torch") is None:
        scene.notes.append("torch is not installed: nothing to save")
        return figures
    return [*figures, *_save(scene)]


def _save(scene: Scene) -> list[Figure]:
    words = scene.times(("resnet50", "13"), ("resnet18", "3"))
    save = msgspec.json.decode(_run("checkpoint_overhead", scene, *words), type=Save)
    waits = Figure(
        what=f"a save of {save.state_mb:.0f} MB keeps training waiting",
        value=save.save_blocks_s,
        unit="s",
        others={"torch.save": save.torch_save_s},
        ratio=save.share,
        bound=Bound(limit=0.1, of="ratio"),
        samples=len(save.shares),
        note=f"shares {save.shares[0]:.1%} … {save.shares[-1]:.1%}",
    )
    slowed = Figure(
        what=f"{words[0]}: a step beside which a save is written",
        value=save.step_beside_writing_s,
        unit="s",
        others={"a step with nothing beside it": save.step_s},
    )
    return [waits, slowed]


def _run(program: str, scene: Scene, *words: str) -> bytes:
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / f"{program}.py"), *words],
        env=os.environ | {"BENCHMARK_DIR": str(scene.folder)}, cwd=scene.folder, check=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return done.stdout
