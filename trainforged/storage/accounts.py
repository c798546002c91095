"""accounts.db: for how long each attempt held GPUs, and what it made of them.

Kept apart from jobs: an account outlives its job, so that a report of last month still adds up. Figures are
kept by the hour. What was not yet written when the daemon was killed is counted as held and not measured.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import msgspec

from trainforged.storage.database import Database
from trainforged.storage.errors import StorageDamaged, translated
from trainforged.storage.opening import Schema, family

log = logging.getLogger(__name__)

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


class AccountStore:
    """The file at `path` (`<state folder>/accounts.db`), open between `open` and `close`. Any thread."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, ACCOUNTS, durable=False)

    def open(self) -> Self:
        """A damaged file is moved aside: nothing else depends on it. Raises other `StorageError`s."""
        try:
            self._database.open()
        except StorageDamaged as error:
            log.error("accounts begin anew: %s", error)
            with translated(self._database.path):
                for file in family(self._database.path):
                    if file.exists():
                        file.rename(file.with_name(f"{file.name}.damaged"))
            self._database.open()
        return self

    def close(self) -> None:
        self._database.close()

    def write(self, accounts: Sequence[Account], slices: Sequence[Slice]) -> None:
        """All of it or nothing, in place of what was there."""
        with self._database.write() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, ?, ?)",
                [(a.job, a.attempt, a.seen_at, a.ended_at is None, _text(a)) for a in accounts],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO slices VALUES (?, ?, ?, ?)",
                [(s.hour, s.job, s.attempt, _text(s)) for s in slices],
            )

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


def _text(value: msgspec.Struct) -> str:
    return msgspec.json.encode(value).decode()
