"""The in-job library: a copy of its modules for jobs to import, one for each version of them.

An upgrade makes a new folder and leaves the old to the jobs that run with it. The folder holds
nothing else, so nothing of the daemon's site-packages comes into a job. Attempts share it: a copy
for each would be 6 ms of each start, and each rank of each would compile it anew.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import trainforge

SOURCE = Path(trainforge.__file__).parent
MODULES = (
    "__init__.py",
    "protocol.py",
    "rank.py",
    *sorted(f"in_job/{path.name}" for path in SOURCE.glob("in_job/*.py")),
)
READ_ONLY = 0o444  # no job changes what another reads


def ensure(state_dir: Path) -> Path:
    """The folder for PYTHONPATH, made if it is not there as it should be. Blocks; raises OSError."""
    contents = {name: (SOURCE / name).read_bytes() for name in MODULES}
    version = hashlib.sha256(repr(sorted(contents.items())).encode()).hexdigest()[:16]
    folder = state_dir / "library" / version
    if not _is_whole(folder, contents):
        _make(folder, contents)
    return folder


def _is_whole(folder: Path, contents: dict[str, bytes]) -> bool:
    try:
        return all((folder / "trainforge" / name).read_bytes() == data for name, data in contents.items())
    except FileNotFoundError:
        return False


def _make(folder: Path, contents: dict[str, bytes]) -> None:
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    for name, data in contents.items():
        path = beside / "trainforge" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(READ_ONLY)
    shutil.rmtree(folder, ignore_errors=True)  # damaged: whatever runs with it has loaded what it needs
    beside.rename(folder)
