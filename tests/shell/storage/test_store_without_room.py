"""trainforge.db where nothing can be written: full disks, read-only ones, I/O errors, other programs."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shell.storage.storing import a_job, add, run_with_own_mounts
from trainforged.storage.jobs.store import JobStore, StorageBroken, StorageDamaged, StorageFull

ROOT = Path(__file__).parents[3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trainforge.db"


_FULL_DISK = """
import os
from pathlib import Path
from tests.shell.storage.storing import a_job, add, happened
from trainforged.storage.jobs.store import JobStore, StorageBroken, StorageFull
folder = Path(os.environ["FOLDER"])
store = JobStore(folder / "trainforge.db").open()
add(store, a_job(1))
ballast = folder / "ballast"
with open(ballast, "wb", buffering=0) as file:
    try:
        while file.write(bytes(4096)):
            pass
    except OSError:
        pass
number, before = 2, store.load()
while True:
    try:
        add(store, a_job(number))
        number += 1
        before = store.load()
    except StorageFull:
        break
assert store.load() == before, "something changed"
assert len(store.page(limit=1000).rows) == number - 1
ballast.unlink()
add(store, a_job(number))
assert [event.id for event in store.commit([happened("again")], {})] == [1]
store.close()
store = JobStore(folder / "trainforge.db").open()
assert len(store.load().jobs) == number
store.close()
print("held")
"""

_READ_ONLY = """
import os, subprocess
from pathlib import Path
from tests.shell.storage.storing import a_job, add
from trainforged.storage.jobs.store import JobStore, StorageBroken
folder = Path(os.environ["FOLDER"])
store = JobStore(folder / "trainforge.db").open()
add(store, a_job(1))
store.close()
subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
try:
    JobStore(folder / "trainforge.db").open()
except StorageBroken as error:
    print(error)
"""


def test_on_a_full_disk_a_commit_is_refused_and_later_ones_work(tmp_path: Path) -> None:
    assert run_with_own_mounts(_FULL_DISK, tmp_path) == "held\n"


def test_a_read_only_file_system_is_named(tmp_path: Path) -> None:
    assert "trainforge.db cannot be used: " in run_with_own_mounts(_READ_ONLY, tmp_path)


def _limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))


_IO_ERROR = """
import resource, sys
from pathlib import Path
from tests.shell.storage.storing import a_job, add
from trainforged.storage.jobs.store import JobStore, StorageBroken
store = JobStore(Path(sys.argv[1])).open()
number = 1
try:
    while True:
        add(store, a_job(number))
        number += 1
except StorageBroken as error:
    print(error)
assert len(store.load().jobs) == number - 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
add(store, a_job(number))
store.close()
store = JobStore(Path(sys.argv[1])).open()
assert len(store.load().jobs) == number
"""


def test_after_an_io_error_the_store_is_unchanged_and_usable(path: Path) -> None:
    """The limit makes each write beyond it fail as a broken disk does (EFBIG)."""
    done = subprocess.run(
        [sys.executable, "-c", _IO_ERROR, str(path)],
        preexec_fn=_limit_file_size,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "trainforge.db cannot be used: disk I/O error" in done.stdout


def test_a_database_that_another_program_holds_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainforged.storage.database.BUSY_SECONDS", 0.05)
    store = JobStore(path).open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageBroken, match="database is locked"):
        add(store, a_job(1))
    other.execute("ROLLBACK")
    other.close()
    add(store, a_job(1))
    assert store.job(1) == a_job(1)
    store.close()


def test_full_and_broken_are_storage_errors_apart() -> None:
    assert not issubclass(StorageFull, StorageBroken)
    assert issubclass(StorageDamaged, StorageBroken)
