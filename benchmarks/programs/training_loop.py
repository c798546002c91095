"""A training loop that runs a turn at a time, when it is told to. Argument: a socket. Each line received
holds a way, "by-hand" or "reporting", and the seconds of a turn; the answer is its images per second.

By hand it knows nothing of TrainForge; reporting, it calls `trainforge.report` in every step, as the
documentation says. Both do the same work in the same order.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

BATCH = 64
CLASSES = 10


def main() -> None:
    (path,) = sys.argv[1:]
    step = make_step()
    ways: dict[str, Callable[[int, float], None]] = {
        "reporting": reporter(),
        "by-hand": lambda number, loss: None,
    }
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        lines = sock.makefile("rw")
        number = 0
        for line in lines:
            way, seconds = line.split()
            tell, images, began = ways[way], 0, time.perf_counter()
            while (passed := time.perf_counter() - began) < float(seconds):
                tell(number, step())
                number += 1
                images += BATCH
            print(images / passed, file=lines, flush=True)


def make_step() -> Callable[[], float]:
    """A small convolutional network on made-up images; a step takes some tens of milliseconds."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4),
        nn.Flatten(), nn.Linear(1024, CLASSES),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images, labels = torch.randn(BATCH, 3, 32, 32), torch.randint(CLASSES, (BATCH,))

    def step() -> float:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    for _ in range(5):
        step()
    return step


def reporter() -> Callable[[int, float], None]:
    import trainforge

    return lambda number, loss: trainforge.report(step=number, loss=loss)


if __name__ == "__main__":
    main()
