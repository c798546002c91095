"""What the recipes are worth on real images: light against heavy augmentation, three seeds, and for each run
the same small budget of CPU time, which is five epochs.

Needs `DATA_DIR` with CIFAR-100 or a part of it in torchvision's layout, and some minutes; a run that was
interrupted goes on where it was if `STUDY_DIR` names a folder to keep. Writes the curves to
`docs/training-accuracy.svg` where they are complete. A figure belongs to the images it was measured on: the
notes say how many there were.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.figures import Figure
from benchmarks.scene import Scene

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "training-accuracy.svg"
SEEDS = (0, 1, 2)
RECIPES = {"light": {}, "heavy": {"MIXUP": "0.2", "CUTMIX": "1.0"}}
MODEL, EPOCHS = "resnet20", "5"
COLOURS = {"light": "#1f77b4", "heavy": "#d62728"}


class Run(NamedTuple):
    """`curve`: top-1 accuracy on test images after each epoch."""

    recipe: str
    seed: int
    curve: tuple[float, ...]
    cpu_seconds: float
    images: str  # "10000 training and 2000 test images"


def measure(scene: Scene) -> list[Figure]:
    data = os.environ.get("DATA_DIR")
    if not data or not Path(data).is_dir():
        scene.notes.append("DATA_DIR does not name a folder with images: nothing was trained")
        return []
    folder = Path(os.environ.get("STUDY_DIR", scene.folder / "study"))
    few = {"MAX_STEPS": scene.times("0", "2")}
    seeds = scene.times(SEEDS, SEEDS[:1])
    runs = [_train(folder, data, recipe, seed, few) for seed in seeds for recipe in RECIPES]
    if not scene.quick:
        PICTURE.write_text(picture(runs))
    scene.notes.append(
        f"{MODEL}, {EPOCHS} epochs, batch 128, on {runs[0].images}: figures of these images, at this budget"
    )
    return [figure for recipe in RECIPES for figure in _figures(recipe, runs)]


def _figures(recipe: str, runs: Sequence[Run]) -> list[Figure]:
    last = [100 * run.curve[-1] for run in runs if run.recipe == recipe]
    spent = [run.cpu_seconds for run in runs if run.recipe == recipe]
    return [
        Figure(
            what=f"{recipe}: top-1 accuracy on test images, mean",
            value=statistics.fmean(last),
            unit="%",
            samples=len(last),
            spread=(min(last), max(last)),
            note="seeds: " + ", ".join(f"{value:.1f}" for value in last),
        ),
        Figure(what=f"{recipe}: CPU time of a run", value=statistics.fmean(spent), unit="s"),
    ]


def _train(folder: Path, data: str, recipe: str, seed: int, more: dict[str, str]) -> Run:
    """One run of train.py, or the rest of one."""
    place = folder / f"{recipe}-{seed}"
    place.mkdir(parents=True, exist_ok=True)
    env = os.environ | {
        "DATA_DIR": str(Path(data).resolve()), "MODEL": MODEL, "EPOCHS": EPOCHS, "AUGMENTATION": recipe,
        "SEED": str(seed), "WEIGHT_DECAY": "0.0005", "TRAINFORGE_ATTEMPT_DIR": str(place),
        "TRAINFORGE_CHECKPOINT_DIR": str(place / "checkpoints"), "PYTHONPATH": str(ROOT),
        **RECIPES[recipe], **more,
    }  # fmt: skip
    spent = place / "cpu-seconds"
    before = _children()
    log = subprocess.run(
        [sys.executable, str(ROOT / "training" / "train.py")], env=env, cwd=place, check=True,
        stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip
    with spent.open("a") as file:
        print(_children() - before, file=file)
    curve = tuple(_curve((place / "records-0.jsonl").read_text().splitlines()))
    images = next(line for line in log.splitlines() if "training and" in line).split(", ")[1]
    return Run(recipe, seed, curve, sum(map(float, spent.read_text().split())), images)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _curve(lines: Iterable[str]) -> Iterable[float]:
    for line in lines:
        record = json.loads(line)
        if record["kind"] == "report" and "val_accuracy" in record["metrics"]:
            yield record["metrics"]["val_accuracy"]


# ---- the picture


def picture(runs: Sequence[Run], width: int = 640, height: int = 360) -> str:
    """Accuracy by epoch: each run thin, the mean of a recipe thick. An SVG."""
    left, right, top, bottom = 50, 20, 30, 40
    epochs = max(len(run.curve) for run in runs)
    highest = max(max(run.curve) for run in runs) * 1.1

    def points(curve: Sequence[float]) -> str:
        across = (width - left - right) / max(epochs - 1, 1)
        return " ".join(
            f"{left + n * across:.1f},{height - bottom - value / highest * (height - top - bottom):.1f}"
            for n, value in enumerate(curve)
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="18">{MODEL} on {runs[0].images}: top-1 accuracy on the test images</text>',
    ]
    for step in range(6):
        value = highest * step / 5
        y = height - bottom - (height - top - bottom) * step / 5
        parts += [
            f'<line x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>',
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * value:.0f} %</text>',
        ]
    for epoch in range(epochs):
        x = left + epoch * (width - left - right) / max(epochs - 1, 1)
        parts.append(f'<text x="{x:.1f}" y="{height - 22}" text-anchor="middle">{epoch + 1}</text>')
    parts.append(f'<text x="{width / 2}" y="{height - 6}" text-anchor="middle">epoch</text>')
    for number, recipe in enumerate(RECIPES):
        curves = [run.curve for run in runs if run.recipe == recipe]
        mean = [statistics.fmean(values) for values in zip(*curves, strict=True)]
        colour = COLOURS[recipe]
        for curve in curves:
            parts.append(f'<polyline points="{points(curve)}" fill="none" stroke="{colour}" opacity="0.35"/>')
        parts += [
            f'<polyline points="{points(mean)}" fill="none" stroke="{colour}" stroke-width="2.5"/>',
            f'<text x="{left + 12}" y="{top + 18 + 18 * number}" fill="{colour}">{recipe}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
