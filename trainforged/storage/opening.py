"""Making, checking and migrating a database file, before anyone works with it.

A file that exists is never replaced: one that is damaged, not ours or too new is refused as it is,
and one of an older version is copied to `<name>.v<version>.bak` before it is migrated.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from trainforged.storage.errors import StorageDamaged, StorageTooNew, is_damage, translated

Migration = Callable[[sqlite3.Connection], None]  # runs inside a transaction, which it must not end


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """What a database holds. `migrations[n]` leads from version n to n + 1. Of a file of more than
    `looked_at` bytes the contents are not read before it is opened: that is left to `looking`."""

    version: int
    application_id: int  # in the file's header: tells our databases from others
    create: tuple[str, ...]  # statements that make the newest version
    migrations: Mapping[int, Migration] = {}
    looked_at: float = math.inf


def prepare(path: Path, schema: Schema) -> None:
    """Leave a sound database of `schema.version` at `path`. Raises the errors of `storage.errors`."""
    with translated(path):
        if not path.exists():
            _create(path, schema)
            return
        with connected(path) as connection:
            found = _check(connection, path, schema)
            if found < schema.version:
                _back_up(connection, _backup(path, found))
                _migrate(connection, schema, found)


def _check(connection: sqlite3.Connection, path: Path, schema: Schema) -> int:
    """The version of a sound database of ours."""
    try:
        application = _pragma(connection, "application_id")
        version = _pragma(connection, "user_version")
        problem = None if path.stat().st_size else "it is empty"
        if problem is None and application != schema.application_id:
            problem = "it is not a database of TrainForge"
        if problem is None and version > schema.version:
            raise StorageTooNew(
                f"{path} was written by a newer version of TrainForge (its format is {version}, this version "
                f"knows {schema.version}): install that version again, or use another state folder"
            )
        if problem is None and path.stat().st_size <= schema.looked_at:
            problem = first_flaw(connection)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        problem = str(error)
    if problem is not None:
        raise StorageDamaged(f"{path} is damaged ({problem}); nothing was changed. {remedy(path)}")
    return version


def first_flaw(connection: sqlite3.Connection) -> str | None:
    answer = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    return None if answer == "ok" else " ".join(answer.split())


def remedy(path: Path) -> str:
    """A sentence on what a person can do about the damaged or missing database at `path`."""
    backups = sorted(path.parent.glob(f"{path.name}.v*.bak"), key=lambda file: file.stat().st_mtime)
    aside = f"Move {path} (with -wal and -shm) aside"
    if backups:
        return f"{aside} and copy the backup {backups[-1]} in its place, or try `sqlite3 {path} .recover`."
    return (
        f"{aside} and put a copy of yours in its place, or try `sqlite3 {path} .recover`; no backup is here."
    )


def _create(path: Path, schema: Schema) -> None:
    """Make it under another name first: an empty file at `path` is damage, never a beginning."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    with connected(draft) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("BEGIN")
        for statement in schema.create:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.application_id}")
        connection.execute(f"PRAGMA user_version = {schema.version}")
        connection.execute("COMMIT")
    publish(draft, path)


def _backup(path: Path, version: int) -> Path:
    return path.with_name(f"{path.name}.v{version}.bak")


def _back_up(connection: sqlite3.Connection, target: Path) -> None:
    draft = target.with_name(target.name + ".new")
    draft.unlink(missing_ok=True)
    try:
        connection.execute("VACUUM INTO ?", (str(draft),))
        draft.chmod(0o600)
        publish(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def _migrate(connection: sqlite3.Connection, schema: Schema, version: int) -> None:
    """All steps in one transaction: whatever fails, the old version stays."""
    connection.execute("BEGIN IMMEDIATE")
    for step in range(version, schema.version):
        schema.migrations[step](connection)
    connection.execute(f"PRAGMA user_version = {schema.version}")
    connection.execute("COMMIT")


def publish(draft: Path, path: Path) -> None:
    """Give a finished file its name, durably."""
    _sync(draft)
    draft.rename(path)
    _sync(path.parent)


def family(path: Path) -> tuple[Path, Path, Path]:
    """The file, its write-ahead log, and the log's index."""
    return path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


def set_aside(path: Path) -> Path:
    """Give the closed database at `path` another name, which is returned; what is missing of it stays so."""
    number = int(time.time())
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for file, other in zip(family(path), family(aside), strict=True):
        if file.exists():
            file.rename(other)
    return aside


def _sync(place: Path) -> None:
    descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


@contextlib.contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path.as_uri() + "?mode=rw", uri=True, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()  # also rolls back
