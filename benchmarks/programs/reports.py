"""Reports 20 series: 500 steps at once, then two a second: `reports.py SERIES STEPS`."""

from __future__ import annotations

import itertools
import math
import random
import sys
import time

import trainforge

EVERY = 0.5  # seconds between two steps, once the past is reported


def main() -> None:
    series, past = int(sys.argv[1]), int(sys.argv[2])
    for step in itertools.count(1):
        level = 4 * math.exp(-step / 200)
        trainforge.report(
            step=step, epoch=step // 50 + 1, epochs=200, loss=level, **figures(series - 1, level)
        )
        if step >= past:
            time.sleep(EVERY)


def figures(count: int, level: float) -> dict[str, float]:
    return {f"metric_{number}": level * number + random.gauss(0, 0.1) for number in range(count)}


main()
