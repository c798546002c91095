"""Opening trainforge.db: new, of an older or newer version, damaged."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest

from tests.shell.storage.storing import a_job, add, happened
from trainforged.storage.database import Database
from trainforged.storage.errors import translated
from trainforged.storage.jobs.store import JobStore, StorageDamaged, StorageTooNew
from trainforged.storage.opening import Schema, prepare


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trainforge.db"


def filled(path: Path) -> None:
    store = JobStore(path).open()
    add(store, *(a_job(n) for n in range(1, 301)))
    store.commit([happened("tick")] * 300, {})
    store.close()


def contents(path: Path) -> bytes:
    return path.read_bytes()


# ---------------------------------------------------------------- new


def test_a_new_database_is_for_its_user_alone_and_durable(path: Path) -> None:
    store = JobStore(path).open()
    add(store, a_job(1))
    assert {file.name: oct(file.stat().st_mode & 0o777) for file in path.parent.iterdir()} == {
        "trainforge.db": "0o600",
        "trainforge.db-wal": "0o600",
        "trainforge.db-shm": "0o600",
    }
    with store._database.write() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store.usage() == sum(file.stat().st_size for file in path.parent.iterdir())
    store.close()
    store.close()


def test_what_a_crash_left_while_making_one_is_no_hindrance(path: Path) -> None:
    path.with_name("trainforge.db.new").write_bytes(b"half")
    store = JobStore(path).open()
    assert store.load().next_id == 1
    assert not path.with_name("trainforge.db.new").exists()
    store.close()


# ---------------------------------------------------------------- versions


def raised(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE things ADD COLUMN size INTEGER NOT NULL DEFAULT 0")
    connection.execute("UPDATE things SET size = length(name)")


def failing(connection: sqlite3.Connection) -> None:
    raised(connection)
    connection.execute("DELETE FROM things")
    raise RuntimeError("a step that fails")


V0 = Schema(version=0, application_id=77, create=("CREATE TABLE things (name TEXT)",))
V1 = Schema(
    version=1,
    application_id=77,
    create=("CREATE TABLE things (name TEXT, size INTEGER NOT NULL DEFAULT 0)",),
    migrations={0: raised},
)


def of_version_0(path: Path) -> None:
    database = Database(path, V0, durable=True)
    database.open()
    with database.write() as connection:
        connection.execute("INSERT INTO things VALUES ('lamp')")
    database.close()


def test_an_older_database_is_backed_up_and_migrated(path: Path) -> None:
    of_version_0(path)
    database = Database(path, V1, durable=True)
    database.open()
    with database.read() as connection:
        assert connection.execute("SELECT * FROM things").fetchall() == [("lamp", 4)]
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    database.close()

    backup = path.with_name("trainforge.db.v0.bak")
    assert oct(backup.stat().st_mode & 0o777) == "0o600"
    backup.rename(path)
    old = Database(path, V0, durable=True)
    old.open()
    with old.read() as connection:
        assert connection.execute("SELECT * FROM things").fetchall() == [("lamp",)]
    old.close()


def test_the_contents_of_a_large_file_are_not_read_before_it_is_opened(path: Path) -> None:
    prepare(path, V1)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE many (name TEXT)")
        connection.executemany("INSERT INTO many VALUES (?)", [("x" * 500,)] * 1000)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * 8192)
    with pytest.raises(StorageDamaged):
        prepare(path, V1)
    prepare(path, msgspec.structs.replace(V1, looked_at=size - 1))


def test_a_migration_that_fails_leaves_the_old_version(path: Path) -> None:
    of_version_0(path)
    broken = Schema(version=1, application_id=77, create=V1.create, migrations={0: failing})
    for _ in range(2):
        with pytest.raises(RuntimeError, match="a step that fails"):
            Database(path, broken, durable=True).open()
    database = Database(path, V1, durable=True)
    database.open()
    with database.read() as connection:
        assert connection.execute("SELECT * FROM things").fetchall() == [("lamp", 4)]
    database.close()


def test_a_newer_database_is_refused_and_left_alone(path: Path) -> None:
    filled(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = contents(path)
    with pytest.raises(StorageTooNew, match=r"its format is 99.*install that version again"):
        JobStore(path).open()
    assert contents(path) == before


# ---------------------------------------------------------------- damage


def truncated(path: Path) -> None:
    path.write_bytes(contents(path)[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def overwritten(path: Path) -> None:
    data = bytearray(contents(path))
    data[8192:12288] = b"\xa5" * 4096
    path.write_bytes(data)


def replaced(path: Path) -> None:
    path.write_text("dear diary, " * 1000)


def someone_elses(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE jobs (id INTEGER)")
    connection.close()


@pytest.mark.parametrize("damage", [truncated, emptied, overwritten, replaced, someone_elses])
def test_a_damaged_database_is_refused_with_what_to_do_and_left_alone(path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    filled(path)
    damage(path)
    before = contents(path)
    for _ in range(2):
        with pytest.raises(StorageDamaged, match=r"is damaged .*nothing was changed.*no backup is here"):
            JobStore(path).open()
    assert contents(path) == before


def test_the_newest_backup_is_named(path: Path) -> None:
    filled(path)
    path.with_name("trainforge.db.v1.bak").write_bytes(contents(path))
    truncated(path)
    with pytest.raises(StorageDamaged, match=r"copy the backup .*/trainforge\.db\.v1\.bak"):
        JobStore(path).open()


def test_a_database_missing_beside_jobs_is_not_made_anew(path: Path) -> None:
    (path.parent / "jobs" / "12").mkdir(parents=True)
    with pytest.raises(StorageDamaged, match="is missing, but folders of jobs are there"):
        JobStore(path).open()
    assert not path.exists()


def test_a_row_that_cannot_be_read_is_damage_until_it_is_made_anew(path: Path) -> None:
    filled(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE jobs SET body = '{\"id\": 7' WHERE id = 7")
    connection.close()
    store = JobStore(path).open()
    with pytest.raises(StorageDamaged, match="a row in it cannot be read"):
        store.job(7)
    assert store.job(8) == a_job(8)
    loaded = {job.id: job for job in store.load().jobs}
    assert loaded.keys() == set(range(1, 301))
    assert (loaded[7].name, loaded[7].state) == (a_job(7).name, a_job(7).state)
    assert loaded[8] == a_job(8)
    assert [event.job for event in store.events(300)] == [7]
    store.commit([happened("later")], {})
    assert [event.id for event in store.events(300)] == [301, 302]
    store.close()


def test_mistakes_of_our_own_are_not_called_damage(path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="syntax"), translated(path):
        sqlite3.connect(":memory:").execute("SELEC")
