"""accounts.db: for how long each attempt held GPUs, and what it made of them.

Kept apart from jobs: an account outlives its job, so that a report of last month still adds up. Figures are
kept by the hour. What was not yet written when the daemon was killed is counted as held and not measured.
A damaged file is written anew with all that can still be read of it: nothing else depends on it.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from trainforged.storage.database import Database
from trainforged.storage.errors import StorageDamaged, StorageError, translated
from trainforged.storage.looking import Looks
from trainforged.storage.opening import Schema, connected, prepare, set_aside

log = logging.getLogger(__name__)
T = TypeVar("T")

HOUR = 3600
KEPT = 400 * 24 * HOUR  # seconds

ACCOUNTS = Schema(
    version=1,
    application_id=0x54464131,  # "TFA1"
    create=(
        """CREATE TABLE accounts (
            job INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            seen_at REAL NOT NULL,
            open INTEGER NOT NULL,
            body TEXT NOT NULL,
            PRIMARY KEY (job, attempt)) WITHOUT ROWID""",
        """CREATE TABLE slices (
            hour INTEGER NOT NULL,
            job INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            body TEXT NOT NULL,
            PRIMARY KEY (hour, job, attempt)) WITHOUT ROWID""",
    ),
)


class Window(msgspec.Struct, array_like=True):
    """The use of one GPU lately: (slot of time, sum of per cent, number of looks), oldest first."""

    slots: list[tuple[int, float, int]] = []


class Account(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One attempt's. Times are seconds since the epoch. `windows` and `low` (since when the use is low)
    are by GPU."""

    job: int
    attempt: int
    user: str
    name: str
    gpus: int
    cpu: int = 0  # cores that it has
    memory: int | None = None  # bytes of host memory that it asked for
    gpu_memory: int = 0  # bytes that its GPUs have together
    granted_at: float
    seen_at: float
    ended_at: float | None = None
    reason: str | None = None
    resumed: bool = False
    checkpoint_at: float | None = None
    windows: dict[str, Window] = {}
    low: dict[str, float] = {}


class Slice(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What happened within an hour. GPU-seconds, byte-seconds, core-seconds."""

    hour: int  # number of the hour since the epoch
    job: int  # 0: the machine, all of whose GPUs are `held`
    attempt: int
    held: float = 0.0
    measured: float = 0.0  # of those held
    busy: float = 0.0  # of those measured, by use
    idle: float = 0.0  # measured, with less than `waste.below` of use
    memory: float = 0.0  # of the GPUs
    memory_peak: int = 0
    seconds: float = 0.0  # in which the processes were measured
    cores: float = 0.0
    host_peak: int = 0


_account = msgspec.json.Decoder(Account)
_slice = msgspec.json.Decoder(Slice)


Rows = tuple[Sequence[Account], Sequence[Slice]]


class AccountStore:
    """The file at `path` (`<state folder>/accounts.db`), open between `open` and `close`. Any thread."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, ACCOUNTS, durable=False)
        self._looks = Looks(self._database, also=_unreadable)

    def open(self) -> Self:
        """Raises `StorageTooNew`, `StorageFull`, `StorageBroken`."""
        path = self._database.path
        try:
            self._database.open()
        except StorageDamaged as error:
            with translated(path):
                aside = set_aside(path)
                kept = _kept_of(aside)
            self._database.open()
            self.write(*kept)
            log.error(
                "%s; accounts begin anew with what could be read of it (%d)", error, sum(map(len, kept))
            )
        return self

    def close(self) -> None:
        self._database.close()

    def look(self) -> str | None:
        """What is wrong with the file, in words; to be called every few seconds, from a thread."""
        return self._looks.look()

    def start_over(self) -> Path:
        """Write the file anew with all that can be read of it; returns where the old one lies. Nobody writes
        meanwhile. Raises `StorageError`: then nothing has changed."""
        path = self._database.path
        draft = path.with_name(f"{path.name}.draft")
        try:
            draft.unlink(missing_ok=True)
            kept = self._still_known()
            prepare(draft, ACCOUNTS)
            with translated(draft), connected(draft) as connection:
                connection.execute("BEGIN")
                _write(connection, *kept)
                connection.execute("COMMIT")
            return self._database.replace(draft)
        except StorageError:
            self._database.suspected = True  # still
            raise
        finally:
            draft.unlink(missing_ok=True)

    def _still_known(self) -> Rows:
        """Also of a file that is gone: the writer still has it."""
        try:
            with self._database.first_hand() as connection:
                return _readable(connection)
        except StorageError:
            return [], []

    def write(self, accounts: Sequence[Account], slices: Sequence[Slice]) -> None:
        """All of it or nothing, in place of what was there."""
        with self._database.write() as connection:
            _write(connection, accounts, slices)

    def open_accounts(self) -> list[Account]:
        with self._database.read() as connection:
            rows = connection.execute("SELECT body FROM accounts WHERE open")
            return [_account.decode(body) for (body,) in rows]

    def slices(self, since: float) -> list[Slice]:
        """Of the hours that end after `since`."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT body FROM slices WHERE hour >= ?", (int(since // HOUR),))
            return [_slice.decode(body) for (body,) in rows]

    def accounts(self, since: float) -> list[Account]:
        """All attempts of jobs that held GPUs after `since`, in order."""
        query = (
            "SELECT body FROM accounts WHERE job IN (SELECT job FROM accounts WHERE seen_at >= ?) "
            "ORDER BY job, attempt"
        )
        with self._database.read() as connection:
            return [_account.decode(body) for (body,) in connection.execute(query, (since,))]

    def tidy(self, now: float) -> None:
        """Forget what is older than `KEPT`."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM slices WHERE hour < ?", (int((now - KEPT) // HOUR),))
            connection.execute("DELETE FROM accounts WHERE seen_at < ? AND NOT open", (now - KEPT,))


def _write(connection: sqlite3.Connection, accounts: Sequence[Account], slices: Sequence[Slice]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, ?, ?)",
        [(a.job, a.attempt, a.seen_at, a.ended_at is None, _text(a)) for a in accounts],
    )
    connection.executemany(
        "INSERT OR REPLACE INTO slices VALUES (?, ?, ?, ?)",
        [(s.hour, s.job, s.attempt, _text(s)) for s in slices],
    )


def _unreadable(connection: sqlite3.Connection) -> str | None:
    """Whether a row of a sound file says nothing that we know."""
    for table, decoder in (("accounts", _account), ("slices", _slice)):
        for (body,) in connection.execute(f"SELECT CAST(body AS BLOB) FROM {table}"):
            try:
                decoder.decode(body)
            except msgspec.DecodeError as error:
                return f"a row of {table} cannot be read: {error}"
    return None


def _kept_of(path: Path) -> Rows:
    """What can be read of the damaged file at `path`."""
    try:
        with connected(path) as connection:
            return _readable(connection)
    except sqlite3.Error:
        return [], []


def _readable(connection: sqlite3.Connection) -> Rows:
    return _rows(connection, "accounts", "job, attempt", _account), _rows(
        connection, "slices", "hour, job, attempt", _slice
    )


def _rows(connection: sqlite3.Connection, table: str, key: str, decoder: msgspec.json.Decoder[T]) -> list[T]:
    """From both ends to where it is damaged."""
    found: dict[tuple[int, ...], T] = {}
    for order in ("ASC", "DESC"):
        by = ", ".join(f"{column} {order}" for column in key.split(", "))
        try:
            for *place, body in connection.execute(
                f"SELECT {key}, CAST(body AS BLOB) FROM {table} ORDER BY {by}"
            ):
                if tuple(place) in found:
                    break
                with contextlib.suppress(msgspec.DecodeError):
                    found[tuple(place)] = decoder.decode(body)
        except sqlite3.DatabaseError:
            continue
    return list(found.values())


def _text(value: msgspec.Struct) -> str:
    return msgspec.json.encode(value).decode()
