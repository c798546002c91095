"""The training project on a GPU, by `programs/gpu_training.py`: seconds per epoch, utilisation, memory, the
share of the floor, and whether a batch that does not fit is trained on in parts.

Without a GPU nothing is measured; with --quick the same is tried in small on the CPU, where its figures say
nothing but that it works. What two, four and eight GPUs would do is a model, and stands in the notes.
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

PROGRAM = Path(__file__).parent / "programs" / "gpu_training.py"
GOAL = 4.0  # seconds for an epoch of ResNet-50 on 50,000 images
FOR = ("H100", "H200")  # the chips that it is the goal of


class Row(msgspec.Struct):
    """One measured training. Without a GPU, and for a chip that is not known, some of it is None."""

    model: str
    batch: int
    passes: str  # plain, compiled, compiled and recorded
    why: str  # they are, or are not, where `COMPILE: auto` had to decide
    seconds_per_epoch: float
    images_per_second: float
    utilisation: float | None
    memory_bytes: int | None
    share_of_floor: float | None
    model_of_speed_up: dict[str, dict[str, float]]  # by bus, by GPUs; of plain passes alone


class Found(msgspec.Struct):
    device: str
    rows: list[Row]
    failures: list[str]
    out_of_memory: str


def measure(scene: Scene) -> list[Figure]:
    has_gpu = importlib.util.find_spec("torch") is not None and _has_gpu()
    if not has_gpu and not scene.quick:
        scene.notes.append("there is no GPU here: nothing was measured")
        return []
    trial = [] if has_gpu else ["--trial"]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--json", *trial],
        env=os.environ | {"BENCHMARK_DIR": str(scene.folder)}, cwd=scene.folder, check=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    found = msgspec.json.decode(done.stdout, type=Found)
    scene.notes.append(f"{found.device}{', a trial in small' if trial else ''}")
    scene.notes.append(f"a batch that does not fit: {found.out_of_memory}")
    scene.notes += [f"NOT MEASURED: {failure}" for failure in found.failures]
    figures = []
    for row in found.rows:
        for bus, model in row.model_of_speed_up.items():
            speed_up = ", ".join(f"{gpus} GPUs {value:.2f} ×" for gpus, value in model.items())
            scene.notes.append(
                f"batch {row.batch}: a model of several GPUs by {bus}, not measured: {speed_up}"
            )
        if row.why:
            scene.notes.append(f"batch {row.batch}, {row.passes}: {row.why}")
        figures += _figures(row, goal=any(chip in found.device for chip in FOR))
    return figures


def _figures(row: Row, goal: bool) -> list[Figure]:
    what = f"{row.model}, batch {row.batch}, {row.passes}"
    waived = None if goal else f"the goal is of {' and '.join(FOR)}"
    epoch = Figure(
        what=f"{what}: an epoch of 50,000 images",
        value=row.seconds_per_epoch,
        unit="s",
        bound=Bound(limit=GOAL, waived=waived),
        note=f"{row.images_per_second:,.0f} images/s",
    )
    figures = [epoch]
    if row.utilisation is not None:
        bound = Bound(limit=90, least=True)
        figures.append(Figure(what=f"{what}: the GPU is used", value=row.utilisation, unit="%", bound=bound))
    if row.memory_bytes is not None:
        figures.append(Figure(what=f"{what}: memory", value=row.memory_bytes / 2**30, unit="GiB"))
    if row.share_of_floor is not None:
        figures.append(Figure(what=f"{what}: share of the floor", value=100 * row.share_of_floor, unit="%"))
    return figures


def _has_gpu() -> bool:
    """Asked of a process of its own: this one need not import torch."""
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
