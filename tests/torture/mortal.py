"""`trainforged` whose processes die at named points: `python -m tests.torture.mortal …` with its options."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.torture.points import around, reached
from trainforged.__main__ import main, parser
from trainforged.execution.starting import spawn
from trainforged.execution.supervisor import Supervisor
from trainforged.storage.jobs.store import JobStore


def with_points(folder: str) -> None:
    """This process's, and of the shims that it starts. `folder`: where it is written who shall die."""

    def here(point: str) -> None:
        reached(folder, f"daemon: {point}")

    JobStore.commit = around(JobStore.commit, "before a commit", "after a commit", here)  # type: ignore[method-assign]
    defaults = Supervisor.__init__.__kwdefaults__
    assert defaults is not None
    assert "reached" in defaults
    defaults["reached"] = here
    spawn.START = Path(__file__).with_name("mortal_shim.py")


if __name__ == "__main__":
    with_points(str(parser().parse_args().state_dir.parent))
    sys.exit(main())
