"""What the recipes are worth on real images: light against heavy augmentation, three seeds, and for each run
the same budget of CPU time (`STUDY_SECONDS`, default 600), start and tests included.

How many epochs that is, is found by a trial of a few steps of each recipe: the learning rate has to fall to
zero by the end of the budget. Each run computes on one core, where CPU time is worth the same whatever else
the machine does, and as many run at once as there are cores.

Needs `DATA_DIR` with CIFAR-100 or a part of it in torchvision's layout; a study that was interrupted goes on
where it was if `STUDY_DIR` names a folder to keep. Writes the curves to `docs/training-accuracy.svg` where
they are complete. A figure belongs to the images it was measured on: the notes say how many there were.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from benchmarks.figures import Figure
from benchmarks.scene import Scene

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "training-accuracy.svg"
SEEDS = (0, 1, 2)
RECIPES = {"light": {}, "heavy": {"MIXUP": "0.2", "CUTMIX": "1.0"}}
MODEL, BATCH = "resnet20", 128
COLOURS = {"light": "#1f77b4", "heavy": "#d62728"}
TRIAL = (4, 20)  # steps
TEST_COST = 1 / 3  # of an image, beside one that is trained on


class Plan(NamedTuple):
    """What the budget is spent on."""

    recipe: str
    epochs: int


class Run(NamedTuple):
    """`curve`: top-1 accuracy on test images after each epoch."""

    recipe: str
    seed: int
    curve: tuple[float, ...]
    cpu_seconds: float


class Images(NamedTuple):
    train: int
    test: int

    def __str__(self) -> str:
        return f"{self.train} training and {self.test} test images"


def measure(scene: Scene) -> list[Figure]:
    data = os.environ.get("DATA_DIR")
    if not data or not Path(data).is_dir():
        scene.notes.append("DATA_DIR does not name a folder with images: nothing was trained")
        return []
    study = Study(Path(os.environ.get("STUDY_DIR", scene.folder / "study")), data)
    budget = scene.times(float(os.environ.get("STUDY_SECONDS", "600")), 0.0)
    plans, images = study.plans(budget)
    orders = [(plan, seed) for seed in scene.times(SEEDS, SEEDS[:1]) for plan in plans]
    few = scene.times(0, 2)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        runs = list(pool.map(lambda order: study.train(order[0], order[1], few), orders))
    if not scene.quick:
        PICTURE.write_text(picture(runs, images))
    epochs = ", ".join(f"{plan.recipe} {plan.epochs}" for plan in plans)
    scene.notes.append(
        f"{MODEL}, batch {BATCH}, {budget:.0f} s of CPU time for each run (epochs: {epochs}), on {images}: "
        f"figures of these images, at this budget"
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
        Figure(
            what=f"{recipe}: CPU time of a run",
            value=statistics.fmean(spent),
            unit="s",
            samples=len(spent),
            spread=(min(spent), max(spent)),
        ),
    ]


class Study:
    """Runs of train.py, each in a folder of its own below `folder`."""

    def __init__(self, folder: Path, data: str) -> None:
        self.folder, self.data = folder, str(Path(data).resolve())

    def plans(self, budget: float) -> tuple[list[Plan], Images]:
        """How many epochs of each recipe the budget pays for, one at least; and how many images there are."""
        kept = self.folder / "plan.json"
        if not kept.exists():
            found = {recipe: self._epochs(recipe, budget) for recipe in RECIPES}
            kept.write_text(json.dumps([{name: n for name, (n, _) in found.items()}, found["light"][1]]))
        epochs, images = json.loads(kept.read_text())
        return [Plan(recipe, epochs[recipe]) for recipe in RECIPES], Images(*images)

    def _epochs(self, recipe: str, budget: float) -> tuple[int, Images]:
        trial = Plan(recipe, 1)
        (few, log), (many, _) = (self._run(f"trial-{recipe}-{n}", trial, 0, n) for n in TRIAL)
        numbers = re.search(r"(\d+) training and (\d+) test images", log)
        assert numbers is not None, log
        images = Images(int(numbers[1]), int(numbers[2]))
        step = (many - few) / (TRIAL[1] - TRIAL[0])
        test = images.test / BATCH * step * TEST_COST
        start = few - TRIAL[0] * step - test
        return max(1, int((budget - start) / (images.train // BATCH * step + test))), images

    def train(self, plan: Plan, seed: int, max_steps: int) -> Run:
        """A whole run, or the rest of one."""
        name = f"{plan.recipe}-{seed}"
        spent, _ = self._run(name, plan, seed, max_steps)
        lines = (self.folder / name / "records-0.jsonl").read_text().splitlines()
        return Run(plan.recipe, seed, tuple(_curve(lines)), spent)

    def _run(self, name: str, plan: Plan, seed: int, max_steps: int) -> tuple[float, str]:
        """The CPU seconds that were spent on it, by all attempts together, and the log."""
        place = self.folder / name
        place.mkdir(parents=True, exist_ok=True)
        env = os.environ | {
            "DATA_DIR": self.data, "MODEL": MODEL, "EPOCHS": str(plan.epochs), "BATCH_SIZE": str(BATCH),
            "AUGMENTATION": plan.recipe, "SEED": str(seed), "MAX_STEPS": str(max_steps),
            "TENSORBOARD": "false", "WEIGHT_DECAY": "0.0005", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
            "TRAINFORGE_ATTEMPT_DIR": str(place), "TRAINFORGE_CHECKPOINT_DIR": str(place / "checkpoints"),
            **RECIPES[plan.recipe],
        }  # fmt: skip
        argv = [sys.executable, str(ROOT / "training" / "train.py")]
        log = place / "output.log"
        with log.open("w") as output:
            process = subprocess.Popen(argv, env=env, cwd=place, stdout=output, stderr=subprocess.STDOUT)
            _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise RuntimeError(f"{name} ended with {process.returncode}: {log.read_text()[-2000:]}")
        spent = place / "cpu-seconds"
        with spent.open("a") as file:
            print(used.ru_utime + used.ru_stime, file=file)
        return sum(map(float, spent.read_text().split())), log.read_text()


def _curve(lines: Iterable[str]) -> Iterable[float]:
    for line in lines:
        record = json.loads(line)
        if record["kind"] == "report" and "val_accuracy" in record["metrics"]:
            yield record["metrics"]["val_accuracy"]


# ---- the picture


def picture(runs: Sequence[Run], images: Images, width: int = 640, height: int = 360) -> str:
    """Accuracy by CPU time: each run thin, the mean of a recipe thick. An SVG."""
    left, right, top, bottom = 50, 20, 30, 40
    longest = max(run.cpu_seconds for run in runs)
    highest = max(max(run.curve) for run in runs) * 1.1

    def across(seconds: float) -> float:
        return left + seconds / longest * (width - left - right)

    def up(value: float) -> float:
        return height - bottom - value / highest * (height - top - bottom)

    def points(curve: Sequence[float], seconds: float) -> str:
        """Epochs take equally long; the start of the process is a small part."""
        places = (across(seconds * number / len(curve)) for number in range(1, len(curve) + 1))
        return " ".join(f"{x:.1f},{up(value):.1f}" for x, value in zip(places, curve, strict=True))

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="18">{MODEL} on {images}: top-1 accuracy on the test images</text>',
    ]
    for step in range(6):
        value, seconds = highest * step / 5, longest * step / 5
        y, x = up(value), across(seconds)
        parts += [
            f'<line x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>',
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * value:.0f} %</text>',
            f'<text x="{x:.1f}" y="{height - 22}" text-anchor="middle">{seconds:.0f}</text>',
        ]
    parts.append(f'<text x="{width / 2}" y="{height - 6}" text-anchor="middle">seconds of CPU time</text>')
    for number, recipe in enumerate(RECIPES):
        chosen = [run for run in runs if run.recipe == recipe]
        mean = [statistics.fmean(values) for values in zip(*(run.curve for run in chosen), strict=True)]
        colour = COLOURS[recipe]
        for run in chosen:
            line = points(run.curve, run.cpu_seconds)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" opacity="0.35"/>')
        line = points(mean, statistics.fmean(run.cpu_seconds for run in chosen))
        parts += [
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2.5"/>',
            f'<text x="{left + 12}" y="{top + 18 + 18 * number}" fill="{colour}">{recipe}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
