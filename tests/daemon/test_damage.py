"""Files that rot, and file systems that stop taking writes, under a running daemon and at its start."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks import processes
from tests.daemon.real import RealDaemon, wait_until
from trainforge.client.client import ApiError
from trainforge.states import JobState


def waiting(daemon: RealDaemon, code: int) -> int:
    """A job that runs until the file `go` is there; ends with `code`."""
    job = daemon.command("sh", "-c", f"until test -e {daemon.folder}/go; do sleep 0.02; done; exit {code}").id
    daemon.wait_for(job, JobState.RUNNING)
    return job


def refused_to_start(daemon: RealDaemon) -> str:
    """What the daemon says instead of starting."""
    said = len(daemon.log.read_text())
    daemon.start(wait=False)
    assert daemon.process is not None
    assert daemon.process.wait(60) != 0
    return daemon.log.read_text()[said:]


def test_a_torn_database_is_refused_and_with_a_backup_in_its_place_nothing_is_lost(
    daemon: RealDaemon,
) -> None:
    job = waiting(daemon, 7)
    database = daemon.state_dir / "trainforge.db"
    backup = daemon.folder / "backup.db"
    with sqlite3.connect(database) as connection:
        connection.execute("VACUUM INTO ?", (str(backup),))
    connection.close()
    daemon.stop()
    os.truncate(database, 4096)
    for _ in range(2):
        said = refused_to_start(daemon)
        assert f"{database} is damaged" in said
        assert "nothing was changed" in said
        assert f"Move {database} (with -wal and -shm) aside and put a copy of yours in its place" in said
        assert database.stat().st_size == 4096
    (daemon.folder / "go").touch()  # the job ends while no daemon can be
    shutil.copy(backup, database)
    daemon.start()
    ended = daemon.wait_for(job)
    assert (ended.state, ended.exit_code, ended.attempt) == (JobState.FAILED, 7, 1)
    assert daemon.wait_for(daemon.command("true").id).state is JobState.SUCCEEDED


# ---------------------------------------------------------------- a file system that takes no more writes


@pytest.fixture
def on_ext4(daemon: RealDaemon) -> Iterator[RealDaemon]:
    """A daemon whose state folder has an ext4 to itself, which can become read-only as after a bad block."""
    daemon.stop()
    shutil.rmtree(daemon.state_dir)
    daemon.state_dir.mkdir()
    image = daemon.folder / "disk.img"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    if shutil.which("mkfs.ext4") is None or shutil.which("e2fsck") is None:
        pytest.skip("needs mkfs.ext4 and e2fsck")
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    if not _mount(daemon):
        pytest.skip("no loop device can be mounted here")
    try:
        yield daemon.start()
    finally:
        daemon.close()
        subprocess.run(["umount", "--lazy", daemon.state_dir], check=True)


def _mount(daemon: RealDaemon) -> bool:
    options = "loop,errors=remount-ro"
    command = ["mount", "-o", options, daemon.folder / "disk.img", daemon.state_dir]
    return subprocess.run(command, capture_output=True).returncode == 0


def _in_use(image: Path) -> bool:
    """A mount namespace of somebody else (another test's) may have a copy of the mount for a moment."""
    return bool(subprocess.run(["losetup", "--associated", image], capture_output=True).stdout)


def _repair(daemon: RealDaemon) -> None:
    """As a person does: unmount, check, mount."""
    unmount = ["umount", daemon.state_dir]
    wait_until(lambda: subprocess.run(unmount, capture_output=True).returncode == 0, "nobody to use it")
    wait_until(lambda: not _in_use(daemon.folder / "disk.img"), "it to be unmounted by all")
    checked = subprocess.run(["e2fsck", "-f", "-y", daemon.folder / "disk.img"], capture_output=True)
    assert checked.returncode in (0, 1), checked.stdout
    assert _mount(daemon)


def test_on_a_file_system_that_made_itself_read_only_nothing_accepted_is_lost(on_ext4: RealDaemon) -> None:
    daemon = on_ext4
    running = waiting(daemon, 0)
    queued = daemon.command("true", hold=True).id
    abort = ["mount", "-o", "remount,abort", daemon.state_dir]
    if subprocess.run(abort, capture_output=True).returncode != 0:
        pytest.skip("this kernel cannot be asked to give an ext4 up")
    refused = daemon.tfctl("submit", "--", "true", check=False)
    assert refused.returncode != 0
    assert str(daemon.state_dir) in refused.stderr
    assert "read-only" in refused.stderr.lower(), refused.stderr
    with pytest.raises(ApiError) as uncommitted:  # its contents are there already
        daemon.command("true")
    assert "Read-only" in str(uncommitted.value)
    assert f"{running} " in daemon.tfctl("status").stdout, "it still answers"
    (daemon.folder / "go").touch()
    daemon.kill()
    wait_until(lambda: not daemon.processes(), "the job to end by itself")
    _repair(daemon)
    daemon.start()
    ended = daemon.wait_for(running)  # nobody could write down how it had ended, and nobody guesses
    assert (ended.state, ended.reason, ended.attempt) == (JobState.FAILED, "lost", 1)
    daemon.tfctl("release", str(queued))
    assert daemon.wait_for(queued).state is JobState.SUCCEEDED


# ---------------------------------------------------------------- more output than is kept


def test_of_more_output_than_is_kept_the_beginning_and_the_end_stay_and_it_is_said(
    start_daemon: Callable[..., RealDaemon], tmp_path: Path
) -> None:
    config = tmp_path / "trainforged.yaml"
    config.write_text("limits:\n  output: 1Mi\n")
    daemon = start_daemon(1, "--config", str(config))
    job = daemon.wait_for(daemon.command("seq", "1", "1500000").id)
    assert job.exit_code == 0
    folder = daemon.state_dir / "jobs" / str(job.id) / "attempts" / "1"
    assert sum(file.stat().st_size for file in folder.glob("*.log")) <= (1 << 20) + 4096
    lines = daemon.tfctl("logs", str(job.id)).stdout.splitlines()
    assert (lines[0], lines[-1]) == ("1", "1500000")
    assert sum("bytes of output are left out here" in line for line in lines) == 1
    assert daemon.tfctl("logs", str(job.id), "--tail", "2").stdout.split() == ["1499999", "1500000"]


LINES = "yes 'as long a line as a training often writes, with a loss' | head -c 20000000000; echo; echo last"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_20_gb_of_output_cost_what_is_kept_and_disturb_nobody(daemon: RealDaemon) -> None:
    job = daemon.command("sh", "-c", LINES).id
    folder, largest = daemon.state_dir / "jobs" / str(job) / "attempts" / "1", 0.0

    def over() -> bool:
        nonlocal largest
        largest = max(largest, processes.resident(daemon.pid))
        with daemon.client() as client:
            return client.job(job).state.ended

    wait_until(over, "20 GB to be written", deadline=1000)
    kept = sum(file.stat().st_size for file in folder.glob("*.log*"))
    assert kept <= (1 << 30) + (1 << 20)
    assert largest < 150e6
    assert daemon.wait_for(job).exit_code == 0
    assert daemon.tfctl("logs", str(job), "--tail", "1").stdout == "last\n"
