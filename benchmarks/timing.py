"""Taking times, so that what else the machine does hurts little: medians, and actions in turn."""

from __future__ import annotations

import math
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Seconds = float
Action = Callable[[], Seconds]

median = statistics.median


def timed(work: Callable[[], object]) -> Seconds:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def alternate(rounds: int, actions: Mapping[str, Action], warm_up: int = 1) -> dict[str, list[Seconds]]:
    """Each action once in every round, in turns of opposite order, so that a busy moment meets all."""
    found: dict[str, list[Seconds]] = {name: [] for name in actions}
    for number in range(warm_up + rounds):
        order = list(actions) if number % 2 else list(actions)[::-1]
        for name in order:
            took = actions[name]()
            if number >= warm_up:
                found[name].append(took)
    return found


def ratio(ours: Sequence[float], floor: Sequence[float]) -> float:
    """The median over the pairs: steadier than the ratio of medians where the load drifts."""
    return median(a / b for a, b in zip(ours, floor, strict=True))


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least so many percent do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    return percentile(values, 25), percentile(values, 75)


def run(argv: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Seconds:
    """From before the process is made to its end; what it says goes to a pipe that is read."""
    began = time.perf_counter()
    done = subprocess.run(argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True)
    took = time.perf_counter() - began
    if done.returncode != 0:
        raise RuntimeError(f"{argv} ended with {done.returncode}: {done.stderr.decode()[-2000:]}")
    return took


def wait_until(
    condition: Callable[[], object], what: str, seconds: float = 60.0, pause: float = 0.002
) -> None:
    """Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(pause)
