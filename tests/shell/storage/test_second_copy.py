"""The second copy of the jobs' database, and the looks that tell when it is needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shell.storage.storing import a_job, a_submission, add, happened
from trainforge.states import JobState
from trainforged.core import messages as m
from trainforged.storage import looking, secondcopy
from trainforged.storage.database import Database
from trainforged.storage.errors import StorageDamaged
from trainforged.storage.jobs.schema import JOBS
from trainforged.storage.jobs.store import JobStore, Truth
from trainforged.storage.looking import Looks

NOTHING = Truth(jobs={}, leases={}, devices={})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    store = JobStore(tmp_path / "trainforge.db").open()
    yield store
    store.close()


def everything(store: JobStore) -> tuple[object, ...]:
    jobs = [row.job for row in store.page(limit=1000).rows]
    return jobs, [store.submission(job.id) for job in jobs], store.events(0), store.load()


def tear(tmp_path: Path) -> None:
    os.truncate(tmp_path / "trainforge.db", 0)
    os.truncate(tmp_path / "trainforge.db-wal", 0)


def test_it_has_all_that_was_committed_before_and_since_it_was_made(store: JobStore, tmp_path: Path) -> None:
    add(store, a_job(1), a_job(2))
    store.tidy()
    add(store, a_job(3))
    store.commit([m.JobChanged(job=a_job(2, JobState.FAILED, ended_at=5.0)), happened("x", 2)], {})
    store.commit([m.SubmissionChanged(job=3, key="new")], {"new": a_submission("r3", workdir="/elsewhere")})
    store.commit([m.JobRemoved(job=1)], {})
    before = everything(store)
    tear(tmp_path)
    aside = store.mend(NOTHING)
    assert everything(store) == before
    assert aside.name.startswith("trainforge.db.damaged-")
    add(store, a_job(4))
    assert store.job(4) is not None


def test_a_copy_is_made_again_when_much_has_come(
    store: JobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secondcopy, "LEAST_COMMITS", 0)
    store.tidy()
    for number in range(1, 60):
        add(store, a_job(number), workdir="/" + "x" * 4000)
        store.tidy()
    files = sorted(file.name for file in (tmp_path / "copy").iterdir())
    assert len(files) == 2, files
    assert files[0] != "commits-1"
    before = everything(store)
    tear(tmp_path)
    store.mend(NOTHING)
    assert everything(store) == before


def test_what_memory_knows_stands_over_it(store: JobStore, tmp_path: Path) -> None:
    add(store, a_job(1))
    store.tidy()
    lease = m.Lease(job=1, attempt=1, gpus=("GPU-1",))
    running = a_job(1, JobState.RUNNING, attempt=1)
    tear(tmp_path)
    store.mend(Truth(jobs={1: running}, leases={1: lease}, devices={}))
    assert (store.load().jobs, store.load().leases) == ((running,), (lease,))


def test_without_a_whole_copy_nothing_is_changed(store: JobStore, tmp_path: Path) -> None:
    add(store, a_job(1))
    with pytest.raises(StorageDamaged, match=r"second copy .* is not whole"):
        store.mend(NOTHING)
    store.tidy()
    add(store, a_job(2))
    (commits,) = (tmp_path / "copy").glob("commits-*")
    os.truncate(commits, commits.stat().st_size - 1)
    with pytest.raises(StorageDamaged, match="commits-1 is damaged"):
        store.mend(NOTHING)
    assert store.job(2) is not None
    assert not list(tmp_path.glob("*.damaged-*"))


def test_a_job_that_only_memory_knows_is_not_made_up(store: JobStore) -> None:
    store.tidy()
    with pytest.raises(StorageDamaged, match="submitted as 7 is nowhere else"):
        store.mend(Truth(jobs={7: a_job(7)}, leases={}, devices={}))


def test_a_damaged_database_is_not_copied(
    store: JobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, *(a_job(number) for number in range(1, 200)))
    store.tidy()
    before = everything(store)
    monkeypatch.setattr(secondcopy, "LEAST_COMMITS", -1)
    monkeypatch.setattr(Database, "checkpoint", lambda self: None)
    with (tmp_path / "trainforge.db").open("r+b") as file:
        file.seek(5 * 4096)
        file.write(b"\xff" * 4096 * 20)
    for _ in range(2):
        monkeypatch.setattr(store._copy, "_size", -1)
        with pytest.raises(StorageDamaged):
            store.tidy()
    store.mend(NOTHING)
    assert everything(store) == before


def test_a_new_daemon_begins_it_anew(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "trainforge.db").open()
    store.tidy()
    kept = list((tmp_path / "copy").iterdir())
    assert len(kept) == 2
    JobStore(tmp_path / "trainforge.db").open()
    assert not (tmp_path / "copy").exists()


# ---------------------------------------------------------------- looks


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "trainforge.db", JOBS, durable=True)
    database.open()
    with database.write() as connection:
        rows = ((str(number), "x" * 1000) for number in range(100))
        connection.executemany("INSERT INTO devices VALUES (?, ?)", rows)
    database.checkpoint()
    yield database
    database.close()


def test_a_sound_file_is_read_seldom(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, read = Clock(), []
    looks = Looks(database, clock)
    flaw = database.flaw
    monkeypatch.setattr(database, "flaw", lambda also: read.append(clock.now) or flaw(also))
    while clock.now < 3 * looking.LONGEST:
        assert looks.look() is None
        clock.now += 2
    assert len(read) == 3, "once after it was written, then once an hour"


@pytest.mark.parametrize("size", [0, 4096, 3 * 4096 + 17])
def test_one_that_became_shorter_is_read_at_once(database: Database, size: int) -> None:
    looks = Looks(database)
    assert looks.look() is None
    os.truncate(database.path, size)
    assert looks.look() is not None


def test_one_that_somebody_else_wrote_in_is_read_soon(database: Database) -> None:
    clock = Clock()
    looks = Looks(database, clock)
    assert looks.look() is None
    with database.path.open("r+b") as file:
        file.seek(10 * 4096)
        file.write(b"\xff" * 4096)
    clock.now += looking.SHORTEST
    assert looks.look() is not None


def test_an_error_that_speaks_of_damage_leads_to_a_look(database: Database) -> None:
    clock = Clock()
    looks = Looks(database, clock)
    assert looks.look() is None
    with database.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (database.path.stat().st_size - 4096))
    with pytest.raises(StorageDamaged), database.read() as connection:
        connection.execute("SELECT sum(length(body)) FROM devices").fetchone()
    assert looks.look() is not None


def test_what_we_do_ourselves_is_no_damage(database: Database) -> None:
    looks = Looks(database)
    with database.write() as connection:
        connection.execute("DELETE FROM devices")
    database.give_back()
    database.checkpoint()
    assert looks.look() is None
    assert database.moved() is None
