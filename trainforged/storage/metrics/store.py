"""metrics.db: the series that jobs reported, their latest progress, and how far their records are read.

The records files are the truth and this is made from them: what `ingest` is given is committed together
with the places read up to, so that each record counts once. A power cut may cost the last commits,
which are then read again; a damaged file is set aside, and everything is to be read again
(`records.read_everything`).
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import msgspec

from trainforge.api import Series, Value
from trainforged.storage.database import Database
from trainforged.storage.errors import StorageDamaged, translated
from trainforged.storage.looking import Looks
from trainforged.storage.metrics import order, thinning
from trainforged.storage.metrics.history import HistoryStore
from trainforged.storage.metrics.ingestion import Ingestion, Note, Place, Reading
from trainforged.storage.metrics.schema import METRICS
from trainforged.storage.metrics.series import Key, Reader, Segment, Start, shown
from trainforged.storage.opening import set_aside
from trainforged.storage.progress import Tracked

__all__ = ["MetricStore", "Note", "Place", "Reading"]

MOST_KNOWN = 2000  # parts of attempts, of which is remembered what is shown
SAMPLES_AT_ONCE = 20_000  # removed in one transaction, so that ingestion waits for a moment only

_note = msgspec.json.Decoder(Note)
_tracked = msgspec.json.Decoder(Tracked)


class MetricStore:
    """The file at `path` (`<state folder>/metrics.db`), open between `open` and `close`. `room`: bytes, above
    which the oldest samples are thinned.

    May be used from several threads; one of them ingests.
    """

    def __init__(
        self,
        path: Path,
        room: Callable[[], float] = lambda: math.inf,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = Database(path, METRICS, durable=False)
        self._looks = Looks(self._database)
        self.history = HistoryStore(self._database)
        self._room = room
        self._clock = clock
        self._known: dict[Key, Segment] = {}
        self._ingestion = Ingestion()
        self._changing = threading.Lock()
        self.set_aside: Path | None = None

    def open(self) -> Self:
        """Where the file is damaged, `set_aside` says afterwards where it was moved to.

        Raises `StorageTooNew`, `StorageFull`, `StorageBroken`.
        """
        try:
            self._database.open()
        except StorageDamaged:
            self.start_over()
        return self

    def close(self) -> None:
        self._database.close()

    def start_over(self) -> Path:
        """Move the file aside and begin an empty one; `RecordReader.start_over` does it for those who read
        records into this. Returns where the old file lies."""
        with self._changing:
            self._database.close()
            with translated(self._database.path):
                aside = set_aside(self._database.path)
            self._ingestion = Ingestion()
            self._known.clear()
            self._database.open()
            self.set_aside = aside
        return aside

    def look(self) -> str | None:
        """What is wrong with the file, in words; to be called every few seconds, from a thread."""
        return self._looks.look()

    # ---- writing

    def ingest(self, readings: Sequence[Reading], rest: Callable[[], None] = lambda: None) -> Counter[int]:
        """Take in what was read, all of it or nothing. Returns how many values of each job were refused
        for having too many different names. `rest` is called now and then."""
        with self._changing:
            try:
                with self._database.write() as connection:
                    return self._ingestion.write(connection, readings, rest)
            except BaseException:
                self._ingestion = Ingestion()
                raise

    def forget(self, job: int) -> None:
        """Remove all of the job. The space comes free with `tidy`."""
        with self._changing, self._database.write() as connection:
            connection.execute("UPDATE series SET job = NULL WHERE job = ?", (job,))
            for table in ("starts", "progress", "places", "notes"):
                connection.execute(f"DELETE FROM {table} WHERE job = ?", (job,))
            self._ingestion = Ingestion()
            self._known.clear()  # numbers of series are given out again
        self.history.forget(job)

    def tidy(self) -> None:
        """Remove forgotten samples, thin the oldest where room is short, give back space; to be called now
        and then, from a thread."""
        while self._remove_some_forgotten():
            pass
        while self._database.used() > self._room() and self._thin_some(self._clock()):
            pass
        self._database.give_back()
        self._database.checkpoint()

    def _thin_some(self, now: float) -> bool:
        """False when nothing is left that could be thinned."""
        with self._database.write() as connection:
            some = thinning.thin_some(connection, now)
        self._known.clear()
        return some

    def _remove_some_forgotten(self) -> bool:
        """False when nothing is left of what was forgotten."""
        with self._database.write() as connection:
            found = connection.execute("SELECT id FROM series WHERE job IS NULL LIMIT 1").fetchone()
            if found is None:
                return False
            some = "SELECT attempt, n FROM samples WHERE series = ? ORDER BY attempt, n LIMIT ?"
            query = f"DELETE FROM samples WHERE series = ? AND (attempt, n) IN ({some})"
            removed = connection.execute(query, (*found, *found, SAMPLES_AT_ONCE)).rowcount
            if removed < SAMPLES_AT_ONCE:
                connection.execute("DELETE FROM blocks WHERE series = ?", found)
                order.forget(connection, *found)
                connection.execute("DELETE FROM series WHERE id = ?", found)
                self._known.clear()
        return True

    # ---- reading

    def place(self, job: int, attempt: int, rank: int) -> Place:
        """How far the records of this rank are read."""
        query = "SELECT offset, in_long_line FROM places WHERE job = ? AND attempt = ? AND rank = ?"
        with self._database.read() as connection:
            found = connection.execute(query, (job, attempt, rank)).fetchone()
        return Place(found[0], bool(found[1])) if found is not None else Place()

    def tracked(self, jobs: Sequence[int]) -> dict[int, Tracked]:
        """The latest position of those of the jobs that reported any."""
        query = "SELECT body FROM progress WHERE job = ?"
        with self._database.read() as connection:
            rows = ((job, connection.execute(query, (job,)).fetchone()) for job in jobs)
            return {job: _tracked.decode(row[0]) for job, row in rows if row is not None}

    def notes(self, job: int) -> tuple[Note, ...]:
        """Checkpoints saved, restored and skipped, and stops, in the order they were read."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT body FROM notes WHERE job = ? ORDER BY id", (job,))
            return tuple(_note.decode(body) for (body,) in rows)

    def names(self, job: int, rank: int = 0) -> tuple[str, ...]:
        """Of the job's series, in order."""
        with self._database.read() as connection:
            query = "SELECT name FROM series WHERE job = ? AND rank = ? ORDER BY name"
            return tuple(name for (name,) in connection.execute(query, (job, rank)))

    def query(
        self,
        job: int,
        names: Sequence[str] = (),
        since: float | None = None,
        points: int | None = None,
        rank: int = 0,
        until: float | None = None,
    ) -> tuple[Series, ...]:
        """The series of these names (none: all), in order of name, as `series.Reader.read` says.
        `since` and `until` are in seconds since the epoch."""
        if len(self._known) > MOST_KNOWN:
            self._known.clear()
        with self._database.read() as connection:
            starts = _starts(connection, job)
            rows = connection.execute(
                "SELECT id, name, has_nan FROM series WHERE job = ? AND rank = ? ORDER BY name", (job, rank)
            ).fetchall()
            return tuple(
                Reader(connection, series, bool(has_nan), self._known).read(
                    name, starts, since, until, points
                )
                for series, name, has_nan in rows
                if not names or name in names
            )

    def points(
        self, job: int, name: str, rank: int, after: tuple[int, int] | None, limit: int
    ) -> tuple[Series, tuple[int, int] | None] | None:
        """As `series.Reader.part` says; None where there is no such series."""
        with self._database.read() as connection:
            query = "SELECT id, has_nan FROM series WHERE job = ? AND rank = ? AND name = ?"
            found = connection.execute(query, (job, rank, name)).fetchone()
            if found is None:
                return None
            reader = Reader(connection, found[0], bool(found[1]), self._known)
            return reader.part(name, _starts(connection, job), after, limit)

    def latest(self, job: int, rank: int = 0) -> dict[str, Value]:
        """The newest value of each of the job's series."""
        newest = "SELECT value FROM samples WHERE series = ? ORDER BY attempt DESC, n DESC LIMIT 1"
        query = "SELECT id, name FROM series WHERE job = ? AND rank = ? ORDER BY name"
        with self._database.read() as connection:
            rows = connection.execute(query, (job, rank)).fetchall()
            found = {name: connection.execute(newest, (series,)).fetchone() for series, name in rows}
        return {name: shown(row[0]) for name, row in found.items() if row is not None}

    def ranks(self, job: int) -> tuple[int, ...]:
        """Those of the job that have reported."""
        with self._database.read() as connection:
            query = "SELECT DISTINCT rank FROM series WHERE job = ? ORDER BY rank"
            return tuple(rank for (rank,) in connection.execute(query, (job,)))

    def usage(self) -> int:
        """Bytes on disk."""
        return self._database.size()


def _starts(connection: sqlite3.Connection, job: int) -> list[Start]:
    rows = connection.execute("SELECT attempt, step, epoch FROM starts WHERE job = ?", (job,))
    return [Start(*row) for row in rows]
