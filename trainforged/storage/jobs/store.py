"""trainforge.db: jobs, what was submitted, attempts, leases, devices and history.

`commit` is one durable transaction, from one thread at a time; memory may follow the disk only after
it returned. Everything else reads, may be called from any thread and does not wait for the writer.
Metrics and output lie elsewhere (`metrics`, `logs`).
"""

from __future__ import annotations

import datetime
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import msgspec

from trainforge.api import EventView
from trainforge.states import JobState
from trainforged.core import messages as m
from trainforged.storage.database import Database
from trainforged.storage.errors import (
    DuplicateRequest,
    StorageBroken,
    StorageDamaged,
    StorageError,
    StorageFull,
    StorageTooNew,
    translated,
)
from trainforged.storage.jobs import reading
from trainforged.storage.jobs.reading import JobRow, Page, Remembered
from trainforged.storage.jobs.schema import JOBS
from trainforged.storage.jobs.submission import Submission, Summary
from trainforged.storage.jobs.unreadable import put_right, unreadable
from trainforged.storage.jobs.writing import Rows, write
from trainforged.storage.looking import Looks
from trainforged.storage.opening import connected, remedy
from trainforged.storage.secondcopy import Commit, SecondCopy

__all__ = [
    "DuplicateRequest",
    "JobRow",
    "JobStore",
    "Page",
    "Remembered",
    "StorageBroken",
    "StorageDamaged",
    "StorageError",
    "StorageFull",
    "StorageTooNew",
    "Submission",
    "Summary",
    "Truth",
]

KEPT_EVENTS = 200_000
EVENTS_AT_ONCE = 2_000  # removed in one transaction, so that a commit waits for a moment only


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """What memory knows to be committed."""

    jobs: Mapping[int, m.Job]
    leases: Mapping[int, m.Lease]
    devices: Mapping[str, m.Device]


class JobStore:
    """The file at `path` (`<state folder>/trainforge.db`), open between `open` and `close`."""

    def __init__(self, path: Path, *, kept_events: int = KEPT_EVENTS) -> None:
        self._database = Database(path, JOBS, durable=True)
        self._copy = SecondCopy(path.parent / "copy", self._database)
        self._looks = Looks(self._database, also=self._older)
        self._kept_events = kept_events
        self._last_event = 0
        self._last_told = 0  # its id, of an event that is in the file for certain

    def open(self) -> Self:
        """Make the file if this is a new state folder; check it, and migrate it after a backup.

        Raises `StorageDamaged` (also where the file is missing beside folders of jobs),
        `StorageTooNew`, `StorageFull`, `StorageBroken`.
        """
        path = self._database.path
        if not path.exists() and _has_jobs(path.parent / "jobs"):
            raise StorageDamaged(f"{path} is missing, but folders of jobs are there. {remedy(path)}")
        self._database.open()
        self._copy.begin()
        with self._database.read() as connection:
            self._last_event = reading.last_event(connection)
        return self

    def close(self) -> None:
        self._database.close()
        self._copy.close()

    # ---- writing

    def commit(
        self, changes: Sequence[m.Change], submissions: Mapping[str, Submission]
    ) -> tuple[EventView, ...]:
        """All of `changes`, durably, or none of them; returns the events that they made, with their ids.

        Raises `StorageFull`, `StorageBroken`, `DuplicateRequest`.
        """
        if not changes:
            return ()
        rows = Rows(changes, submissions)
        first = self._last_event + 1
        if what := self._database.moved():  # it would be on a disk where nobody finds it
            raise StorageDamaged(f"{self._database.path} cannot be used: {what}")
        commit = Commit(changes, submissions, first)
        with self._database.write(then=lambda: self._copy.note(commit)) as connection:
            write(connection, rows, first)
        self._last_event += len(rows.events)
        return tuple(_view(number, event) for number, event in enumerate(rows.events, first))

    def tidy(self) -> int:
        """Remove the oldest events above the number kept, shorten the write-ahead log; to be called now
        and then, from a thread. Returns how many events went."""
        removed = self._remove_old_events()
        self._database.give_back()
        self._database.checkpoint()
        self._copy.renew()
        return removed

    def _remove_old_events(self) -> int:
        query = "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE id <= ? ORDER BY id LIMIT ?)"
        removed = 0
        while True:
            newest = self._last_event - self._kept_events
            with self._database.write() as connection:
                count = connection.execute(query, (newest, EVENTS_AT_ONCE)).rowcount
            removed += count
            if count < EVENTS_AT_ONCE:
                return removed

    # ---- damage under way

    def look(self) -> str | None:
        """What is wrong with the file, in words; to be called every few seconds, from a thread."""
        self._last_told = self._last_event
        return self._looks.look()

    def _older(self, connection: sqlite3.Connection) -> str | None:
        """A copy that was written over it may be sound, and lack what was committed since."""
        if self._last_told > reading.last_event(connection):
            return "it is older than what was committed last"
        return unreadable(connection)

    def mend(self, truth: Truth) -> Path:
        """Write the database anew, from the second copy and from `truth`; returns where the old one lies.
        Nobody commits meanwhile. Raises `StorageError`: then nothing has changed."""
        draft = self._database.path.with_name(self._database.path.name + ".new")
        try:
            self._copy.rebuild(draft)
            self._put_right(draft)
            _agree(draft, truth)
            aside = self._database.replace(draft)
            with self._database.read() as connection:  # rows that were put right were told there
                self._last_event = reading.last_event(connection)
            return aside
        except StorageError:
            self._database.suspected = True  # still
            raise
        finally:
            draft.unlink(missing_ok=True)

    # ---- reading

    @property
    def commits(self) -> int:
        """While this is the same, so is everything that can be read here."""
        return self._database.commits

    def load(self) -> Remembered:
        """What the core starts from. Rows that cannot be read are set aside first: see `unreadable`."""
        try:
            return self._remembered()
        except (StorageDamaged, ValueError):
            if not self._put_right(self._database.path):
                raise
        remembered = self._remembered()
        self._last_event = remembered.last_event
        return remembered

    def _remembered(self) -> Remembered:
        with self._database.read() as connection:
            return reading.remembered(connection)

    def _put_right(self, path: Path) -> int:
        with translated(path), connected(path) as connection:
            return put_right(connection, self._database.path.parent)

    def page(
        self,
        *,
        states: Sequence[JobState] = (),
        user: str | None = None,
        name: str | None = None,
        limit: int = 100,
        cursor: int | None = None,
    ) -> Page:
        """Jobs newest first: those in one of `states` (none: all), of `user`, whose name matches the
        glob pattern `name`, with an id below `cursor`."""
        with self._database.read() as connection:
            return reading.page(connection, states, user, name, limit, cursor)

    def counts(self) -> dict[JobState, int]:
        """How many jobs are in each state; every state is there."""
        with self._database.read() as connection:
            return reading.counts(connection)

    def job(self, job: int) -> m.Job | None:
        with self._database.read() as connection:
            return reading.job(connection, job)

    def submission(self, job: int) -> Submission | None:
        with self._database.read() as connection:
            return reading.submission(connection, job)

    def attempts(self, job: int) -> tuple[m.Attempt, ...]:
        """Oldest first; none of a job that does not exist."""
        with self._database.read() as connection:
            return reading.attempts(connection, job)

    def find_requests(self, user: str, request_ids: Sequence[str]) -> dict[str, int]:
        """Those of the request ids that have made a job which is still there, and its id."""
        with self._database.read() as connection:
            return reading.find_requests(connection, user, request_ids)

    def events(self, after: int, job: int | None = None, limit: int = 1000) -> tuple[EventView, ...]:
        """Events with an id above `after`, oldest first. Ids are consecutive: without `job`, a first id
        above `after + 1` says that older ones have been removed."""
        with self._database.read() as connection:
            return reading.events(connection, after, job, limit)

    def newest_events(self, job: int, limit: int) -> tuple[EventView, ...]:
        """The last `limit` events of the job, oldest first."""
        with self._database.read() as connection:
            return reading.newest_events(connection, job, limit)

    @property
    def last_event(self) -> int:
        """The id of the newest event; 0 before the first."""
        return self._last_event

    def ended_before(self, moment: float, limit: int = 1000) -> tuple[m.Job, ...]:
        """Jobs that ended before this time (seconds since the epoch), the longest ended first."""
        with self._database.read() as connection:
            return reading.ended_before(connection, moment, limit)

    def contents(self) -> frozenset[str]:
        """Hashes of all manifests and captured shells that stored submissions name. Reads the whole
        table: for the collection of what is not in use."""
        with self._database.read() as connection:
            return reading.contents(connection)

    def usage(self) -> int:
        """Bytes on disk of the database, its log and its backups."""
        path = self._database.path
        backups = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}.v*.bak"))
        return self._database.size() + self._copy.usage() + backups


def _view(number: int, event: m.Happened) -> EventView:
    return EventView(
        id=number,
        time=datetime.datetime.fromtimestamp(event.time, datetime.UTC),
        type=event.type,
        job=event.job,
        message=event.message,
        data=event.data,
    )


def _agree(path: Path, truth: Truth) -> None:
    """Let the database say what `truth` says. Raises `StorageDamaged` if it lacks a job."""
    with connected(path) as connection:
        known = reading.remembered(connection)
        lost = truth.jobs.keys() - {job.id for job in known.jobs}
        if lost:
            raise StorageDamaged(f"what was submitted as {', '.join(map(str, sorted(lost)))} is nowhere else")
        changes: list[m.Change] = [m.JobChanged(job=job) for job in truth.jobs.values()]
        changes += [m.LeaseChanged(lease=lease) for lease in truth.leases.values()]
        changes += [m.LeaseEnded(job=o.job) for o in known.leases if o.job not in truth.leases]
        changes += [m.DeviceChanged(device=device) for device in truth.devices.values()]
        connection.execute("BEGIN")
        write(connection, Rows(changes, {}), known.last_event + 1)
        connection.execute("COMMIT")


def _has_jobs(folder: Path) -> bool:
    return folder.is_dir() and any(entry.name.isdigit() for entry in folder.iterdir())
