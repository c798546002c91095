"""Databases that are torn, removed or replaced under the running daemon: it says so, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.real import RealDaemon, wait_until
from trainforge.client.client import ApiError
from trainforge.states import JobState

PAGE = 4096


def remove(database: Path, earlier: Path) -> None:
    database.unlink()


def remove_the_log(database: Path, earlier: Path) -> None:
    database.with_name(database.name + "-wal").unlink()


def put_an_earlier_one_in_its_place(database: Path, earlier: Path) -> None:
    os.replace(earlier, database)


def write_an_earlier_one_over_it(database: Path, earlier: Path) -> None:
    shutil.copyfile(earlier, database)


def copy_an_earlier_one_over_it(database: Path, earlier: Path) -> None:
    """As of a daemon that was stopped: nothing is wrong with it, but that it is old."""
    with contextlib.closing(sqlite3.connect(earlier)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    shutil.copyfile(earlier, database)


def cut_it_short(database: Path, earlier: Path) -> None:
    os.truncate(database, PAGE)


def empty_it(database: Path, earlier: Path) -> None:
    os.truncate(database, 0)


def fill_it_with_zeros(database: Path, earlier: Path) -> None:
    with database.open("r+b") as file:
        file.seek(PAGE)
        file.write(bytes(database.stat().st_size - PAGE))


Damage = Callable[[Path, Path], None]
DAMAGES: tuple[Damage, ...] = (
    remove,
    remove_the_log,
    put_an_earlier_one_in_its_place,
    write_an_earlier_one_over_it,
    copy_an_earlier_one_over_it,
    cut_it_short,
    empty_it,
    fill_it_with_zeros,
)


def mended(daemon: RealDaemon) -> str:
    """What is told of it, once it is told."""

    def told() -> str | None:
        with daemon.client() as client, contextlib.suppress(ApiError):  # it cannot be read for a moment
            return next((e.message for e in client.events() if e.type == "database_mended"), None)
        return None

    return str(wait_until(told, "the database to be written anew"))


def backup(database: Path, goal: Path) -> Path:
    with sqlite3.connect(database) as connection:
        connection.execute("VACUUM INTO ?", (str(goal),))
    connection.close()
    return goal


def settle(database: Path) -> None:
    """Everything is in the file, and nothing in the log: what is done to it harms."""
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_accepted_is_there_after_the_database_was_torn_under_the_daemon(
    daemon: RealDaemon, damage: Damage
) -> None:
    database, go = daemon.state_dir / "trainforge.db", daemon.folder / "go"
    ended = daemon.wait_for(daemon.command("sh", "-c", "exit 3").id)
    earlier = backup(database, daemon.folder / "earlier.db")
    running = daemon.command("sh", "-c", f"until test -e {go}; do sleep 0.02; done; exit 7").id
    daemon.wait_for(running, JobState.RUNNING)
    held = daemon.command("true", hold=True, name="held").id
    wait_until(lambda: list(daemon.state_dir.glob("copy/copy-*.db")), "the second copy")
    settle(database)
    damage(database, earlier)
    said = mended(daemon)
    assert "trainforge.db was damaged under the daemon" in said, said
    later = daemon.command("true", hold=True).id
    daemon.kill()
    daemon.start()
    daemon.wait_for(running, JobState.RUNNING)
    with daemon.client() as client:
        known = {job.id: (job.state, job.exit_code, job.name) for job in client.all_jobs()}
        numbers = [event.id for event in client.events()]
    assert known == {
        ended.id: (JobState.FAILED, 3, "test"),
        running: (JobState.RUNNING, None, "test"),
        held: (JobState.HELD, None, "held"),
        later: (JobState.HELD, None, "test"),
    }
    assert numbers == list(range(1, len(numbers) + 1)), "no event is missing, none is told twice"
    go.touch()
    done = daemon.wait_for(running)
    assert (done.exit_code, done.attempt) == (7, 1)
    aside = [file for file in daemon.state_dir.glob("trainforge.db.damaged-*") if file.suffix[-1].isdigit()]
    assert [str(file) in daemon.tfctl("doctor", check=False).stdout for file in aside] == [True] * len(aside)
    assert aside or damage is remove


def test_one_that_cannot_be_written_anew_is_told_and_takes_nothing_until_it_can(
    daemon: RealDaemon,
) -> None:
    database, copy = daemon.state_dir / "trainforge.db", daemon.state_dir / "copy"
    job = daemon.command("true", hold=True).id
    wait_until(lambda: list(copy.glob("copy-*.db")), "the second copy")
    copy.rename(daemon.folder / "elsewhere")
    database.rename(daemon.folder / "first.db")

    def told() -> bool:
        return "trainforge.db was removed, and it cannot be written anew" in daemon.tfctl("status").stderr

    wait_until(told, "the daemon to see it")
    assert "trainforge.db was removed" in daemon.tfctl("doctor", check=False).stdout
    refused = daemon.tfctl("submit", "--", "true", check=False)
    assert refused.returncode != 0
    assert "trainforge.db was removed" in refused.stderr
    (daemon.folder / "first.db").rename(database)  # as it was, the log beside it
    wait_until(lambda: not daemon.tfctl("status").stderr, "the daemon to see that")
    daemon.tfctl("release", str(job))
    assert daemon.wait_for(job).state is JobState.SUCCEEDED


REPORTS = """
import trainforge
for step in range(5):
    trainforge.report(step=step, loss=1.0 / (step + 1))
"""


def write_nonsense_into_a_row(database: Path, earlier: Path) -> None:
    """The file is sound."""
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection:
        connection.execute("UPDATE slices SET body = ? WHERE job = 1", (b'{"hour": "\xff',))
        connection.commit()


@pytest.mark.parametrize("damage", [remove, cut_it_short, fill_it_with_zeros, write_nonsense_into_a_row])
def test_accounts_are_there_after_theirs_was_torn(daemon: RealDaemon, damage: Damage) -> None:
    """At least of what runs; of the past what can still be read."""
    database, go = daemon.state_dir / "accounts.db", daemon.folder / "go"
    earlier = backup(database, daemon.folder / "earlier.db")
    daemon.wait_for(daemon.command("true", resources={"gpu": 1}).id)
    daemon.get("/v1/report?since=1h")  # writes what is known
    waits = f"until test -e {go}; do sleep 0.02; done"
    running = daemon.wait_for(daemon.command("sh", "-c", waits, resources={"gpu": 1}).id, JobState.RUNNING)
    daemon.get("/v1/report?since=1h")
    settle(database)
    damage(database, earlier)
    said = mended(daemon)
    assert "accounts.db was damaged under the daemon" in said, said
    known = {row["job"] for row in daemon.get("/v1/report?since=1h")["jobs"]}
    assert running.id in known
    assert 1 in known or damage not in (remove, write_nonsense_into_a_row)
    aside = [file for file in daemon.state_dir.glob("accounts.db.damaged-*") if file.suffix[-1].isdigit()]
    assert [str(file) in daemon.tfctl("doctor", check=False).stdout for file in aside] == [True] * len(aside)
    daemon.stop()
    daemon.start()
    go.touch()
    daemon.wait_for(running.id)
    assert running.id in {row["job"] for row in daemon.get("/v1/report?since=1h")["jobs"]}


@pytest.mark.parametrize("damage", [remove, cut_it_short])
def test_metrics_are_read_again_after_theirs_was_torn(daemon: RealDaemon, damage: Damage) -> None:
    (daemon.folder / "train.py").write_text(REPORTS)
    daemon.tfctl("submit", "train.py", "--gpu", "0")
    daemon.wait_for(1)
    before = daemon.tfctl("metrics", "1").stdout
    assert "loss" in before
    damage(daemon.state_dir / "metrics.db", daemon.folder)
    assert "metrics.db was damaged under the daemon" in mended(daemon)
    wait_until(lambda: daemon.tfctl("metrics", "1").stdout == before, "the records to be read again")
