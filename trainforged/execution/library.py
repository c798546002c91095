"""The in-job library: a copy for each attempt, as the modules are when it starts.

An upgrade does not reach a job that runs, and nothing of the daemon's site-packages is on its path.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import trainforge
from trainforge.protocol import IN_JOB_MODULES

SOURCE = Path(trainforge.__file__).parent
FOLDER = "lib"  # below the attempt's folder; goes on PYTHONPATH


def install(attempt: Path) -> None:
    """Copy the modules to `<attempt>/lib/trainforge`. Safe to do again, for an attempt that has not begun."""
    package = attempt / FOLDER / "trainforge"
    package.mkdir(parents=True, exist_ok=True)
    for name in IN_JOB_MODULES:
        shutil.copyfile(SOURCE / name, package / name)
