"""What one `trainforge.report` costs: `python benchmarks/programs/report_overhead.py`.

In a job (one record appended to a file), beside what a user would call instead where it is installed:
TensorBoard's `SummaryWriter.add_scalar`, three values as three calls. Goal: at most 20 µs a call.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

CALLS = 2_000
ROUNDS = 25


def cost(call: Callable[[int], None]) -> tuple[float, float]:
    """(least, median) microseconds a call, over the rounds."""
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for step in range(CALLS):
            call(step)
        rounds.append((time.perf_counter() - started) / CALLS * 1e6)
    return min(rounds), statistics.median(rounds)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as at_end:
        os.environ["TRAINFORGE_ATTEMPT_DIR"] = os.environ["TRAINFORGE_JOB_DIR"] = folder
        import trainforge

        calls: dict[str, Callable[[int], None]] = {
            "report(step, loss)": lambda step: trainforge.report(step=step, loss=0.5),
            "report(step, epoch, epochs, 3 metrics)": lambda step: trainforge.report(
                step=step, epoch=1, epochs=9, loss=0.5, accuracy=0.75, lr=0.1
            ),
        }
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            print("tensorboard is not installed: no peer", file=sys.stderr)
        else:
            writer = SummaryWriter(os.path.join(folder, "tensorboard"))
            at_end.callback(writer.close)  # it writes in a thread of its own

            def three(step: int) -> None:
                for name in ("loss", "accuracy", "lr"):
                    writer.add_scalar(name, 0.5, step)

            calls["SummaryWriter.add_scalar, 3 calls"] = three
        for name, call in calls.items():
            least, median = cost(call)
            print(json.dumps({"call": name, "least_us": round(least, 2), "median_us": round(median, 2)}))


if __name__ == "__main__":
    main()
