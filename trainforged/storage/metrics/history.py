"""What GPUs and jobs used over time, in metrics.db: whole for a while, then as means over longer steps.

Rows are kept for each of several steps, the longer the step the longer. A step is filled from the finest one
as samples come, so nothing has to be gone over again later. A time without a row is a gap.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from trainforged.storage.database import Database

HOUR, DAY = 3600, 86400
KEPT = 30 * DAY  # of anything, seconds
LONGEST = 60  # step, in seconds; the one that reaches back furthest

Kind = Literal["job", "set_aside", "drained", "foreign", "unknown"]
Figures = tuple[float | None, ...]
"""One for each column of a table."""


class Table(msgspec.Struct, frozen=True):
    """`steps`: seconds of a step → how long it is kept."""

    name: str
    columns: tuple[str, ...]
    steps: Mapping[int, int]

    def step_for(self, age: float) -> int:
        """The finest that reaches back so far."""
        return next((step for step, kept in self.steps.items() if age <= kept), max(self.steps))


GPUS = Table("gpu_history", ("utilization", "memory", "temperature", "power"), {1: 660, 10: DAY, 60: KEPT})
JOBS = Table("job_history", ("cpu", "memory", "read", "written", "received", "sent"), {5: 6 * HOUR, 60: KEPT})


class SeenGpu(msgspec.Struct, frozen=True, kw_only=True):
    uuid: str
    index: int
    name: str
    memory_total: int


class KeptSpan(msgspec.Struct, frozen=True, kw_only=True):
    """Of one GPU (`uuid`); seconds since the epoch."""

    uuid: str
    start: float
    end: float
    kind: Kind
    job: int | None = None
    name: str | None = None
    attempt: int | None = None
    reason: str | None = None

    @property
    def what(self) -> tuple[object, ...]:
        """The same of two spans that are one."""
        return self.kind, self.job, self.name, self.attempt, self.reason


class News(msgspec.Struct, frozen=True, kw_only=True):
    """What came since the last write. Figures by the time they are of, in whole seconds."""

    gpus: Sequence[SeenGpu] = ()
    gpu_figures: Sequence[tuple[str, int, Figures]] = ()  # by UUID
    job_figures: Sequence[tuple[int, int, Figures]] = ()
    spans: Sequence[KeptSpan] = ()  # one with the start of a stored one takes its place


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of equal distance; None in all columns where there is none."""

    start: int
    step: int
    count: int
    rows: Mapping[int, Figures]

    @property
    def times(self) -> tuple[float, ...]:
        return tuple(float(self.start + self.step * number) for number in range(self.count))

    def column(self, number: int) -> tuple[float | None, ...]:
        times = range(self.start, self.start + self.step * self.count, self.step)
        return tuple(self.rows[t][number] if t in self.rows else None for t in times)


class HistoryStore:
    """Over an open `Database` with the tables of `history_schema`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, news: News, now: float) -> None:
        """One transaction for all of it; what is too old goes."""
        with self._database.write() as connection:
            ids = _gpu_ids(connection, news.gpus)
            figures = [(ids[uuid], time, row) for uuid, time, row in news.gpu_figures if uuid in ids]
            _fill(connection, GPUS, figures, now)
            _fill(connection, JOBS, news.job_figures, now)
            connection.executemany(
                "INSERT OR REPLACE INTO gpu_spans VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(ids[s.uuid], s.start, s.end, *s.what) for s in news.spans if s.uuid in ids],
            )
            for id in ids.values():
                connection.execute("DELETE FROM gpu_spans WHERE id = ? AND start < ?", (id, now - KEPT))

    def forget(self, job: int) -> None:
        """Of a removed job nothing is left but its spans: that somebody had the GPU stays true."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM job_history WHERE id = ?", (job,))

    # ---- reading

    def gpus(self) -> tuple[SeenGpu, ...]:
        """Those that were ever seen, by index."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT uuid, place, name, memory_total FROM gpus ORDER BY place, id")
            return tuple(
                SeenGpu(uuid=uuid, index=index, name=name, memory_total=total)
                for uuid, index, name, total in rows
            )

    def gpu_grids(self, since: float, until: float, points: int, now: float) -> dict[str, Grid]:
        """By UUID; GPUs of which nothing is known from that time are left out."""
        with self._database.read() as connection:
            found = {
                uuid: _grid(connection, GPUS, id, since, until, points, now)
                for id, uuid in connection.execute("SELECT id, uuid FROM gpus").fetchall()
            }
        return {uuid: grid for uuid, grid in found.items() if grid.rows}

    def job_grid(self, job: int, since: float, until: float, points: int, now: float) -> Grid:
        with self._database.read() as connection:
            return _grid(connection, JOBS, job, since, until, points, now)

    def spans(self, since: float, until: float) -> tuple[KeptSpan, ...]:
        """What reaches into that time, in order."""
        query = (
            'SELECT uuid, start, "end", kind, job, gpu_spans.name, attempt, reason '
            'FROM gpu_spans JOIN gpus USING (id) WHERE "end" > ? AND start < ? ORDER BY start'
        )
        with self._database.read() as connection:
            return tuple(map(_span, connection.execute(query, (since, until))))

    def last_spans(self) -> dict[str, KeptSpan]:
        """The newest of each GPU."""
        query = (
            'SELECT uuid, max(start), "end", kind, job, gpu_spans.name, attempt, reason '
            "FROM gpu_spans JOIN gpus USING (id) GROUP BY id"
        )
        with self._database.read() as connection:
            return {row[0]: _span(row) for row in connection.execute(query)}

    def first_seen(self) -> dict[str, float]:
        """Since when anything is known of each GPU that figures are kept of, to the minute."""
        oldest = f"(SELECT min(time) FROM gpu_history WHERE id = gpus.id AND step = {LONGEST})"
        with self._database.read() as connection:
            rows = connection.execute(f"SELECT uuid, {oldest} FROM gpus").fetchall()
        return {uuid: float(time) for uuid, time in rows if time is not None}

    def last_seen(self) -> dict[str, float]:
        """When the newest figures of each GPU were taken."""
        newest = "(SELECT max(time) FROM gpu_history WHERE id = gpus.id AND step = 1)"
        with self._database.read() as connection:
            rows = connection.execute(f"SELECT uuid, {newest} FROM gpus").fetchall()
        return {uuid: float(time) for uuid, time in rows if time is not None}


def _span(row: tuple[str, float, float, Kind, int | None, str | None, int | None, str | None]) -> KeptSpan:
    uuid, start, end, kind, job, name, attempt, reason = row
    return KeptSpan(
        uuid=uuid, start=start, end=end, kind=kind, job=job, name=name, attempt=attempt, reason=reason
    )


def _gpu_ids(connection: sqlite3.Connection, gpus: Iterable[SeenGpu]) -> dict[str, int]:
    known = {
        row[1]: row for row in connection.execute("SELECT id, uuid, place, name, memory_total FROM gpus")
    }
    for gpu in gpus:
        facts = (gpu.uuid, gpu.index, gpu.name, gpu.memory_total)
        if gpu.uuid not in known or known[gpu.uuid][1:] != facts:
            (id,) = connection.execute(
                "INSERT INTO gpus (uuid, place, name, memory_total) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (uuid) DO UPDATE SET place = excluded.place, name = excluded.name, "
                "memory_total = excluded.memory_total RETURNING id",
                facts,
            ).fetchone()
            known[gpu.uuid] = (id, *facts)
    return {uuid: row[0] for uuid, row in known.items()}


def _fill(
    connection: sqlite3.Connection, table: Table, figures: Sequence[tuple[int, int, Figures]], now: float
) -> None:
    finest, *longer = table.steps
    connection.executemany(
        f"INSERT OR REPLACE INTO {table.name} VALUES (?, ?, ?{', ?' * len(table.columns)})",
        [(id, finest, time, *row) for id, time, row in figures],
    )
    begin: dict[int, int] = {}
    for id, time, _ in figures:
        begin[id] = min(time, begin.get(id, time))
    means = ", ".join(f"avg({column})" for column in table.columns)
    for id, first in begin.items():
        for step in longer:
            connection.execute(
                f"INSERT OR REPLACE INTO {table.name} SELECT id, ?, time / ? * ?, {means} FROM {table.name} "
                "WHERE id = ? AND step = ? AND time >= ? GROUP BY time / ?",
                (step, step, step, id, finest, first // step * step, step),
            )
        for step, kept in table.steps.items():
            connection.execute(
                f"DELETE FROM {table.name} WHERE id = ? AND step = ? AND time < ?", (id, step, now - kept)
            )


def _grid(
    connection: sqlite3.Connection, table: Table, id: int, since: float, until: float, points: int, now: float
) -> Grid:
    """At most `points` rows, or one more: its ends are whole steps."""
    step = table.step_for(now - since)
    width = step * max(1, math.ceil((until - since) / points / step))
    start = int(since // width * width)
    count = max(0, math.ceil((until - start) / width))
    means = ", ".join(f"avg({column})" for column in table.columns)
    rows = connection.execute(
        f"SELECT time / ? * ?, {means} FROM {table.name} "
        "WHERE id = ? AND step = ? AND time >= ? AND time < ? GROUP BY time / ?",
        (width, width, id, step, start, start + width * count, width),
    )
    return Grid(
        start=start, step=width, count=count, rows={time: tuple(row) for time, *row in rows.fetchall()}
    )
