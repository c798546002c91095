"""Rows of a sound database that say nothing: what can be is made anew, it is told, and all others live."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from tests.daemon.real import RealDaemon, wait_until
from tests.daemon.test_torn_database import mended
from trainforge.states import JobState

NONSENSE = {"no JSON": b'{"id": 1, "na', "no text": b"\xff\xfe", "another type": b'["running"]'}
ENDED, RUNNING, HELD, OTHER = 1, 2, 3, 4


@pytest.fixture
def go(daemon: RealDaemon) -> Path:
    """Four jobs; when it is there, the running one ends with 7."""
    go = daemon.folder / "go"
    daemon.wait_for(daemon.command("sh", "-c", "exit 3").id)
    waits = f"until test -e {go}; do sleep 0.02; done; exit 7"
    daemon.wait_for(daemon.command("sh", "-c", waits, resources={"gpu": 1}).id, JobState.RUNNING)
    daemon.command("true", hold=True, name="held")
    daemon.command("true", hold=True, name="other")
    return go


def spoil(daemon: RealDaemon, table: str, where: str, body: bytes = NONSENSE["no JSON"]) -> None:
    database, column = daemon.state_dir / "trainforge.db", "value" if table == "meta" else "body"
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection:
        query = f"UPDATE {table} SET {column} = CAST(? AS TEXT) WHERE {where}"
        assert connection.execute(query, (body,)).rowcount > 0
        connection.commit()


def states(daemon: RealDaemon) -> dict[int, JobState]:
    with daemon.client() as client:
        return {job.id: job.state for job in client.all_jobs()}


def assert_told(daemon: RealDaemon, table: str, job: int | None) -> None:
    kept = daemon.state_dir / "trainforge.db.unreadable-rows"
    assert table in kept.read_text()
    assert str(kept) in daemon.tfctl("doctor", check=False).stdout
    assert f"a row of {table}" in daemon.log.read_text()
    with daemon.client() as client:
        told = [(event.job, event.message) for event in client.events() if event.type == "database_mended"]
    assert any(of == job and f"a row of {table}" in message for of, message in told), told


@pytest.mark.parametrize(
    ("table", "where", "job", "kind"),
    [
        ("jobs", "id = 2", RUNNING, "no JSON"),
        ("jobs", "id = 3", HELD, "no text"),
        ("leases", "job = 2", RUNNING, "another type"),
        ("attempts", "job = 2", RUNNING, "no text"),
        ("submissions", "job = 2", RUNNING, "another type"),
        ("devices", "true", None, "no JSON"),
        ("meta", "key = 'machine'", None, "another type"),
        ("meta", "key = 'highest_id'", None, "no JSON"),
    ],
)
def test_one_at_the_start_is_made_anew_from_what_else_is_known(
    daemon: RealDaemon, go: Path, table: str, where: str, job: int | None, kind: str
) -> None:
    daemon.stop()
    spoil(daemon, table, where, NONSENSE[kind])
    daemon.start()
    if table == "submissions":  # found when somebody asks for it, or at the next look
        mended(daemon)
    daemon.wait_for(RUNNING, JobState.RUNNING)
    assert_told(daemon, table, job)
    assert states(daemon) == {
        ENDED: JobState.FAILED,
        RUNNING: JobState.RUNNING,
        HELD: JobState.HELD,
        OTHER: JobState.HELD,
    }
    assert daemon.command("true").id == OTHER + 1, "no number is given twice"
    go.touch()
    done = daemon.wait_for(RUNNING)
    assert (done.exit_code, done.attempt) == (7, 1)
    for held in (HELD, OTHER):
        daemon.tfctl("release", str(held))
        assert daemon.wait_for(held).state is JobState.SUCCEEDED


def test_a_job_of_which_nothing_else_is_known_has_failed_and_says_so(daemon: RealDaemon, go: Path) -> None:
    daemon.stop()
    for job in (RUNNING, HELD):
        spoil(daemon, "jobs", f"id = {job}")
    spoil(daemon, "submissions", f"job = {HELD}")
    daemon.start()
    assert daemon.wait_for(HELD).state is JobState.FAILED
    assert_told(daemon, "submissions", HELD)
    assert "could not be read" in daemon.tfctl("why", str(HELD)).stdout
    go.touch()
    assert daemon.wait_for(RUNNING).exit_code == 7
    assert states(daemon)[OTHER] is JobState.HELD


@pytest.mark.parametrize(("table", "where"), [("jobs", "id IN (1, 2)"), ("submissions", "job IN (2, 3)")])
def test_one_under_the_running_daemon_comes_from_the_second_copy(
    daemon: RealDaemon, go: Path, table: str, where: str
) -> None:
    before = daemon.get("/v1/jobs/3")["spec"]
    wait_until(lambda: list(daemon.state_dir.glob("copy/copy-*.db")), "the second copy")
    spoil(daemon, table, where)
    assert "cannot be read" in mended(daemon)
    daemon.kill()
    daemon.start()
    assert daemon.get("/v1/jobs/3")["spec"] == before
    assert daemon.wait_for(ENDED).exit_code == 3
    go.touch()
    assert daemon.wait_for(RUNNING).exit_code == 7
    assert not (daemon.state_dir / "trainforge.db.unreadable-rows").exists()
