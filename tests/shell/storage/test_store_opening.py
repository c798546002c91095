"""Opening trainforge.db: new, of an older or newer version, damaged, on a full disk; and the state folder."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.shell.storage.storing import a_job, add, happened, run_with_own_mounts
from trainforged.storage.database import Database
from trainforged.storage.errors import StateDirBusy, StateDirRefused, translated
from trainforged.storage.jobs.store import (
    JobStore,
    StorageBroken,
    StorageDamaged,
    StorageFull,
    StorageTooNew,
)
from trainforged.storage.opening import Schema, prepare
from trainforged.storage.statedir import (
    file_system_type,
    is_network,
    lock_state_dir,
    refuse_network_file_system,
)

ROOT = Path(__file__).parents[3]


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


def test_a_row_that_cannot_be_read_is_damage(path: Path) -> None:
    filled(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE jobs SET body = '{\"id\": 7' WHERE id = 7")
    connection.close()
    store = JobStore(path).open()
    with pytest.raises(StorageDamaged, match="a row in it cannot be read"):
        store.load()
    assert store.job(8) == a_job(8)
    store.close()


def test_mistakes_of_our_own_are_not_called_damage(path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="syntax"), translated(path):
        sqlite3.connect(":memory:").execute("SELEC")


# ---------------------------------------------------------------- no room, no right to write


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


# ---------------------------------------------------------------- the state folder

MOUNTS = """\
22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw
30 22 0:40 / /home rw - nfs4 server:/home rw
31 30 0:41 / /home/alice/local\\040disk rw shared:5 - xfs /dev/vdb rw
32 22 0:42 / /mnt/remote rw,nosuid - fuse.sshfs bob@host: rw
33 22 0:43 / /over rw - nfs server:/over rw
34 33 0:44 / /over rw - btrfs /dev/vdc rw
"""


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/var/lib/trainforge", "ext4"),
        ("/home/alice/state", "nfs4"),
        ("/home/alice/local disk/state", "xfs"),
        ("/homes", "ext4"),
        ("/mnt/remote", "fuse.sshfs"),
        ("/over/there", "btrfs"),
    ],
)
def test_the_mount_that_holds_a_folder_is_found(place: str, kind: str) -> None:
    assert file_system_type(Path(place), MOUNTS) == kind


def test_which_types_are_of_the_network() -> None:
    kinds = [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "lustre",
        "9p",
        "ceph",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.rclone",
    ]
    assert [kind for kind in kinds if not is_network(kind)] == []
    local = [
        "ext4",
        "xfs",
        "btrfs",
        "zfs",
        "tmpfs",
        "overlay",
        "f2fs",
        "fuseblk",
        "fuse.mergerfs",
        "bcachefs",
    ]
    assert [kind for kind in local if is_network(kind)] == []


def test_a_local_folder_is_taken_also_before_it_exists(tmp_path: Path) -> None:
    refuse_network_file_system(tmp_path / "not" / "yet")


def test_a_folder_on_the_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainforged.storage.statedir.file_system_type", lambda *_: "nfs4")
    with pytest.raises(StateDirRefused, match=r"network file system \(nfs4\).*--state-dir"):
        refuse_network_file_system(tmp_path)


_HOLD_LOCK = """
import sys
from pathlib import Path
from trainforged.storage.statedir import lock_state_dir
lock = lock_state_dir(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_one_process_holds_the_state_folder_until_it_ends(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD_LOCK, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(StateDirBusy, match=f"process {holder.pid}") as busy:
        lock_state_dir(tmp_path)
    assert busy.value.pid == holder.pid
    holder.kill()
    holder.communicate()
    with lock_state_dir(tmp_path), pytest.raises(StateDirBusy):
        lock_state_dir(tmp_path)
    lock_state_dir(tmp_path).release()


def test_programs_that_are_started_do_not_inherit_the_lock(tmp_path: Path) -> None:
    lock = lock_state_dir(tmp_path)
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    lock.release()
    lock_state_dir(tmp_path).release()
    child.kill()
    child.wait()
