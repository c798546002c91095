"""Disks that jobs fill to the last byte: a job is held, not tried again and again, until there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.real import RealDaemon, wait_until
from trainforge.api import JobView
from trainforge.states import JobState


@pytest.fixture
def disk(daemon: RealDaemon) -> Iterator[Path]:
    """A disk of 16 MB that is not the state folder's."""
    place = daemon.folder / "data"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield place
    daemon.close()
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def held_for_room(daemon: RealDaemon, disk: Path) -> JobView:
    """The job, once it waits for room on that disk; what `why` says of it names the disk."""

    def waits() -> JobView | None:
        with daemon.client() as client:
            job = client.job(1)
        return job if job.state is JobState.BACKOFF and job.reason == "disk_full" else None

    job: JobView = wait_until(waits, "the disk to be found full")
    why = daemon.tfctl("why", "1").stdout
    assert f"waits for room on the disk of {disk}" in why, why
    return job


def goes_on_once_there_is_room(daemon: RealDaemon, disk: Path) -> None:
    before = held_for_room(daemon, disk)
    assert before.attempt == 1
    (disk / "big").unlink()
    ended = daemon.wait_for(1)
    assert (ended.state, ended.attempt, ended.retries) == (JobState.SUCCEEDED, 2, 0)


FILLS = """
import os, sys, trainforge
trainforge.report(step=int(os.environ["TRAINFORGE_ATTEMPT"]))
place = "__PLACE__"
if os.environ["TRAINFORGE_ATTEMPT"] == "2":
    sys.exit(0)
try:
    with open(place + "/big", "ab", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
except OSError as error:
    full = error
"""

ENDS = {
    "an error that names no path": "raise full",
    "an error that names one": "raise OSError(28, 'No space left on device', place + '/big')",
    "a quota": "raise OSError(122, os.strerror(122), place + '/big')",
    "a word of its own": "sys.exit(f'could not save: {full}')",
    "torch's own words": "import torch\ntorch.save(torch.zeros(1 << 20), place + '/model.pt')",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_script_that_fills_a_disk_waits_for_room_on_that_disk(
    daemon: RealDaemon, disk: Path, end: str
) -> None:
    home = daemon.folder if end == "an error that names one" else disk
    (home / "train.py").write_text(FILLS.replace("__PLACE__", str(disk)) + ENDS[end])
    daemon.tfctl("submit", "train.py", "--gpu", "0", "--set", "recovery.backoff=0.1s", cwd=home)
    goes_on_once_there_is_room(daemon, disk)


@pytest.mark.parametrize("end", ["sys.exit(1)", "os.kill(os.getpid(), 7)"])
def test_one_that_ends_without_a_word_where_nothing_is_left(daemon: RealDaemon, disk: Path, end: str) -> None:
    """Its own folder is on the disk; a file in memory that finds no room ends its process with SIGBUS."""
    (disk / "train.py").write_text(FILLS.replace("__PLACE__", str(disk)) + end)
    daemon.tfctl("submit", "train.py", "--gpu", "0", "--set", "recovery.backoff=0.1s", cwd=disk)
    goes_on_once_there_is_room(daemon, disk)


def test_it_is_not_started_again_by_a_new_daemon_either(daemon: RealDaemon, disk: Path) -> None:
    (disk / "train.py").write_text(FILLS.replace("__PLACE__", str(disk)) + "raise full")
    daemon.tfctl("submit", "train.py", "--gpu", "0", "--set", "recovery.backoff=0.1s", cwd=disk)
    held_for_room(daemon, disk)
    daemon.kill()
    daemon.start()
    daemon.wait_for(daemon.command("true").id)  # time has passed, and turns were given
    goes_on_once_there_is_room(daemon, disk)
