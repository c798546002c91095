"""A shim that dies at named points. Started as `shim/start.py` is, and does what that does."""

import os
import sys

sys.path.append(os.path.abspath(__file__).rsplit("/", 3)[0])

from tests.torture.points import around, reached
from trainforged.execution.shim import child, locks, run

attempt = sys.argv[1]
folder, job = attempt.rsplit("/", 5)[0], attempt.rsplit("/", 3)[1]


def here(point: str) -> None:
    reached(folder, f"shim: {point}", job)


locks.lock_attempt = around(locks.lock_attempt, "", "it has the lock", here)
run.Shim._announce = around(run.Shim._announce, "", "it has said who it is", here)  # type: ignore[method-assign]
child.start = around(child.start, "before the command", "the command runs", here)
run.Shim._write_end = around(run.Shim._write_end, "before the exit status", "after the exit status", here)  # type: ignore[method-assign]

run.main(attempt)
sys.stderr.flush()
os._exit(0)
