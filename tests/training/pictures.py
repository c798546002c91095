"""Tiny made-up pictures in the files of CIFAR: each class is a colour, with noise."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np


def entry(count: int, classes: int, label: str, seed: int) -> dict[str, Any]:
    chance = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    colours = np.random.default_rng(7).integers(0, 200, (classes, 3, 1))
    pixels = (colours[labels] + chance.integers(0, 56, (count, 3, 1024))).astype(np.uint8)
    return {"data": pixels.reshape(count, -1), label: labels.tolist()}


def write(path: Path, content: object, protocol: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol))


def write_cifar100(folder: Path, classes: int = 10, images: int = 80) -> None:
    """`images` to train and 40 to test, of the first `classes` of 100 classes."""
    for name, count in (("train", images), ("test", 40)):
        content = entry(count, classes, "fine_labels", seed=count)
        write(folder / "cifar-100-python" / name, {**content, "coarse_labels": [0] * count})


def write_cifar10(folder: Path) -> None:
    """As Python 2 wrote it, with keys of bytes: five files of 20 images, and 30 to test."""
    for number, name in enumerate((*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"), 1):
        content = entry(30 if name == "test_batch" else 20, 10, "labels", seed=number)
        write(
            folder / "cifar-10-batches-py" / name,
            {key.encode(): value for key, value in content.items()},
            protocol=2,
        )
