"""Disks that fill up, and databases that know less than the folders beside them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.real import RealDaemon, wait_until
from trainforge.client.client import Client
from trainforge.states import JobState


def test_folders_that_the_database_does_not_know_are_left_alone(daemon: RealDaemon) -> None:
    daemon.wait_for(daemon.command("true").id)
    backup = daemon.folder / "backup.db"
    with sqlite3.connect(daemon.state_dir / "trainforge.db") as connection:
        connection.execute("VACUUM INTO ?", (str(backup),))
    saved = daemon.wait_for(daemon.command("sh", "-c", "touch $TRAINFORGE_CHECKPOINT_DIR/best.pt").id)
    removed = daemon.wait_for(daemon.command("true").id)
    daemon.tfctl("rm", str(removed.id))
    wait_until(lambda: not Path(removed.dir).exists(), "its folder to be removed")
    daemon.stop()
    for name in ("trainforge.db-wal", "trainforge.db-shm"):
        (daemon.state_dir / name).unlink(missing_ok=True)
    shutil.copy(backup, daemon.state_dir / "trainforge.db")
    daemon.start()
    after = daemon.wait_for(daemon.command("true").id)
    assert after.id == saved.id + 1, "above every number that has a folder"
    assert (Path(saved.dir) / "checkpoints" / "best.pt").exists()
    assert f"the database knows nothing of jobs {saved.id};" in daemon.log.read_text()


def test_the_folder_of_a_removed_job_goes_also_when_the_daemon_dies_meanwhile(daemon: RealDaemon) -> None:
    job = daemon.wait_for(daemon.command("true").id)
    last = daemon.wait_for(daemon.command("true").id)
    kept = daemon.folder / "kept"
    shutil.copytree(job.dir, kept)
    daemon.tfctl("rm", str(job.id))
    wait_until(lambda: not Path(job.dir).exists(), "its folder to be removed")
    daemon.kill()
    shutil.move(kept, job.dir)
    daemon.start()
    wait_until(lambda: not Path(job.dir).exists(), "what was left to be removed")
    assert Path(last.dir).exists()


@pytest.fixture
def small(daemon: RealDaemon) -> Iterator[RealDaemon]:
    """A daemon whose state folder has a disk of 48 MB to itself."""
    daemon.stop()
    shutil.rmtree(daemon.state_dir)
    daemon.state_dir.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(daemon.state_dir)],
        capture_output=True, text=True,
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield daemon.start()
    finally:
        daemon.close()
        subprocess.run(["umount", "--lazy", str(daemon.state_dir)], check=True)


FILL = "cat /dev/zero > $TRAINFORGE_CHECKPOINT_DIR/big 2>/dev/null; exit 5"


def _fill_until_refused(daemon: RealDaemon, filler: Path) -> subprocess.CompletedProcess[str]:
    """A submission that finds no room. The daemon makes some by itself now and then (its logs, its journals):
    what is accepted meanwhile has found that, and the next one finds less."""
    for _ in range(100):
        with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        refused = daemon.tfctl("submit", "--", "true", check=False)
        if refused.returncode != 0:
            return refused
    raise AssertionError("a hundred jobs found room on a full disk")


def test_a_full_disk_is_freed_by_removing_a_job(small: RealDaemon) -> None:
    wait_until((small.state_dir / "reserve").exists, "the reserve")
    job = small.command("sh", "-c", FILL).id
    assert small.wait_for(job).exit_code == 5
    filler = small.state_dir / "filler"  # whatever is still free, or comes free
    refused = _fill_until_refused(small, filler)
    words = "no space is left", "no room for"  # by what found none: a content, or the commit
    assert any(word in refused.stderr for word in words), refused.stderr
    small.tfctl("rm", str(job))
    wait_until(lambda: shutil.disk_usage(small.state_dir).free > 20 << 20, "room")
    assert small.wait_for(small.command("true").id).exit_code == 0
    filler.unlink()


SAVES = """
import os, sys, trainforge
if os.path.exists("there is room"):
    sys.exit(0)
with open(os.environ["TRAINFORGE_CHECKPOINT_DIR"] + "/big", "ab", buffering=0) as file:
    while True:
        file.write(bytes(1 << 16))
"""


def test_a_job_that_finds_the_disk_full_continues_when_there_is_room(small: RealDaemon) -> None:
    (small.folder / "train.py").write_text(SAVES)
    small.tfctl("submit", "train.py", "--gpu", "0", "--set", "recovery.backoff=0.1s")

    def found_it_full() -> bool:
        with small.client() as client:
            attempts = client.job(1).attempts or ()
        return bool(attempts) and attempts[0].reason == "disk_full"

    wait_until(found_it_full, "the disk to be found full")
    (small.folder / "there is room").touch()
    (small.state_dir / "jobs" / "1" / "checkpoints" / "big").unlink()
    ended = small.wait_for(1)
    assert (ended.state, ended.retries) == (JobState.SUCCEEDED, 0)


CHECKPOINTS = """
import os, time, torch, trainforge
model = torch.nn.Linear(1024, 2048)  # 8 MB, of a disk of 48
checkpointer = trainforge.Checkpointer(model=model)
start = checkpointer.resume()
print("from", start, flush=True)
for step in range(start + 1, 4):
    if step == 2:
        with open(os.environ["OTHERS"], "wb") as file:
            file.write(bytes(24 << 20))
    checkpointer.save(step)
    checkpointer.wait()
    trainforge.report(step=step)
    while step == 2 and os.path.exists(os.environ["OTHERS"]):
        time.sleep(0.02)
checkpointer.close()
if start == 0:
    os.kill(os.getpid(), 9)
"""


def _skipped(client: Client) -> list[str]:
    return [event.message for event in client.events(job=1) if event.type == "checkpoint_skipped"]


@pytest.mark.torch
def test_a_checkpoint_that_finds_no_room_is_told_and_training_goes_on(small: RealDaemon) -> None:
    """The one before stays whole, and the next is written once there is room."""
    pytest.importorskip("torch")
    others = small.state_dir / "others"
    (small.folder / "train.py").write_text(CHECKPOINTS)
    small.tfctl("submit", "train.py", "--gpu", "0", "--env", f"OTHERS={others}")
    with small.client() as client:
        wait_until(lambda: (got := client.job(1).progress) is not None and got.step == 2, "the second step")
        (said,) = wait_until(lambda: _skipped(client), "the word on its checkpoint")
        assert "step-0000000002" in said
        assert "not written: No space left on device" in said
        assert [one.step for one in client.path(1).checkpoints] == [1]
        others.unlink()
        ended = small.wait_for(1)
        assert ended.attempts is not None
        assert ended.attempts[0].reason == "killed", "that is over which it had gone on"
        assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)
        assert [one.step for one in client.path(1).checkpoints][-1] == 3
    assert small.tfctl("logs", "1").stdout.startswith("from 3\n")


def test_what_ends_while_the_database_finds_no_room_is_known_afterwards_and_after_kill_9(
    small: RealDaemon,
) -> None:
    go = small.folder / "go"
    running = small.command("sh", "-c", f"until test -e {go}; do sleep 0.02; done; exit 7").id
    small.wait_for(running, JobState.RUNNING)
    held = small.command("true", hold=True).id
    filler = small.state_dir / "filler"
    _fill_until_refused(small, filler)
    go.touch()
    wait_until(lambda: not small.processes(), "it to end")
    assert small.tfctl("status").returncode == 0, "it answers"
    small.kill()
    small.start()
    filler.unlink()
    ended = small.wait_for(running)
    assert (ended.state, ended.exit_code, ended.attempt) == (JobState.FAILED, 7, 1)
    with small.client() as client:
        assert client.job(held).state is JobState.HELD
    small.tfctl("release", str(held))
    assert small.wait_for(held).state is JobState.SUCCEEDED


def test_the_last_words_that_a_full_disk_refuses_are_known_all_the_same(small: RealDaemon) -> None:
    fill = "cat /dev/zero > $TRAINFORGE_CHECKPOINT_DIR/big 2>/dev/null"
    say = "seq 1 5000; echo 'save: big: No space left on device' >&2"
    job = small.command("sh", "-c", f"echo begins; {fill}; {say}; exit 4").id
    ended = small.wait_for(job)
    assert (ended.exit_code, ended.reason) == (4, "disk_full")
    assert "save: big: No space left on device" in small.tfctl("why", str(job)).stdout
    assert "No space" not in small.tfctl("logs", str(job)).stdout, "the log had no room for it"


def test_a_daemon_starts_on_a_full_disk(small: RealDaemon) -> None:
    wait_until((small.state_dir / "reserve").exists, "the reserve")
    job = small.command("sh", "-c", FILL).id
    small.wait_for(job)
    small.kill()
    small.start()
    with small.client() as client:
        assert client.job(job).state is JobState.FAILED


# ---------------------------------------------------------------- what is damaged


def _frozen(daemon: RealDaemon, *options: str) -> list[str]:
    """A project of a Python file and a large one, submitted; what was frozen of the two, as paths."""
    project = daemon.folder / "project"
    project.mkdir(exist_ok=True)
    (project / "train.py").write_text("print('trained')\n")
    (project / "words.txt").write_text("word " * 50_000)
    (project / "trainforge.yaml").write_text(
        "project:\n  name: damaged\ntraining:\n  command: [python3, train.py]\nresources:\n  gpu: 0\n"
    )
    daemon.tfctl("submit", *options, cwd=project)
    contents = [(project / name).read_bytes() for name in ("train.py", "words.txt")]
    names = [hashlib.sha256(content).hexdigest() for content in contents]
    return [str(daemon.state_dir / "files" / name[:2] / name) for name in names]


def test_frozen_files_that_are_damaged_are_named_by_path_and_another_submission_restores_them(
    daemon: RealDaemon,
) -> None:
    for path in _frozen(daemon, "--hold"):
        os.truncate(path, 7)
    daemon.tfctl("release", "1")
    failed = daemon.wait_for(1)
    assert (failed.state, failed.attempt, failed.reason) == (JobState.FAILED, 1, "start_failed")
    why = daemon.tfctl("why", "1").stdout
    assert "train.py (and 1 more: words.txt): its frozen content" in why
    assert "submit the project again" in why
    _frozen(daemon)
    assert daemon.wait_for(2).state is JobState.SUCCEEDED
