"""Reading one series out of metrics.db: which samples are shown, and which of too many.

Superseded samples are kept and not shown: those of an attempt that lie at or beyond the place where a
later attempt began. Of more samples than asked for, each of a row of equal buckets keeps its least
and its greatest value (and its first NaN), and the first and last sample stay.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from trainforge.api import Series, Value
from trainforged.storage.metrics import blocks, order
from trainforged.storage.metrics.blocks import BLOCK

FEWEST_POINTS = 5  # first, last, and one bucket

_COLUMNS = "attempt, n, value, coalesce(step, epoch, n), epoch, time"
_IN_SEGMENT = "series = :series AND attempt = :attempt AND n BETWEEN :first AND :last"

Values = dict[str, float | None]
Row = tuple[int, int, float | None, float, float | None, float]  # as _COLUMNS


class Start(msgspec.Struct, frozen=True):
    """The position of an attempt's first report."""

    attempt: int
    step: float | None
    epoch: float | None


class Segment(msgspec.Struct, frozen=True):
    """Samples `first` … `last` of one attempt, of which those count that meet `condition`."""

    attempt: int
    first: int
    last: int
    condition: str = ""  # SQL, with `values`
    values: Values = {}

    def __hash__(self) -> int:
        return hash((self.attempt, self.first, self.last, self.condition))

    @property
    def length(self) -> int:
        return self.last - self.first + 1


Key = tuple[object, ...]  # series, all of an attempt, and what supersedes a part of it


class Reader:
    """One series, read inside one transaction. `known` is kept between reads: which part of an attempt that
    is over is shown takes a look at all of it, and stays the same until another attempt starts."""

    def __init__(
        self, connection: sqlite3.Connection, series: int, has_nan: bool, known: dict[Key, Segment]
    ) -> None:
        self._known = known
        self._connection = connection
        self._series = series
        self._has_nan = has_nan

    def read(
        self, name: str, starts: Sequence[Start], since: float | None, until: float | None, points: int | None
    ) -> Series:
        """What is shown of the series: after the time `since`, up to `until`, and at most `points` (or a
        few) of it."""
        segments = list(self._segments([*starts, *self._own_starts()], since, until))
        total = sum(segment.length for segment in segments)
        if points is None or total <= max(points, FEWEST_POINTS):
            rows = [row for segment in segments for row in self._all(segment)]
        else:
            rows = self._chosen(segments, total, max(points, FEWEST_POINTS))
        return _series(name, rows)

    def part(
        self, name: str, starts: Sequence[Start], after: tuple[int, int] | None, limit: int
    ) -> tuple[Series, tuple[int, int] | None]:
        """The first `limit` points behind the place `after` (attempt, n) of all that is shown, and the place
        of the last of them where there may be more."""
        rows: list[Row] = []
        for segment in self._segments([*starts, *self._own_starts()], None, None):
            if after is not None and segment.attempt == after[0]:
                segment = msgspec.structs.replace(segment, first=max(segment.first, after[1] + 1))
            if after is None or segment.attempt >= after[0]:
                rows += self._all(segment, limit - len(rows))
            if len(rows) >= limit:
                return _series(name, rows), rows[-1][:2]
        return _series(name, rows), None

    # ---- which samples

    def _segments(
        self, starts: Sequence[Start], since: float | None, until: float | None
    ) -> Iterator[Segment]:
        for attempt in self._attempts():
            first = 0 if since is None else self._first_after(attempt, since)
            last = self._newest(attempt) if until is None else self._first_after(attempt, until) - 1
            segment = Segment(attempt, first, last)
            condition, values = _visible(start for start in starts if start.attempt > attempt)
            if condition:
                key = (self._series, segment, condition, *values.values())
                segment = self._known.get(key) or self._visible_part(segment, condition, values)
                if since is None and until is None:
                    self._known[key] = segment
            if segment.length > 0:
                yield segment

    def _own_starts(self) -> Iterator[Start]:
        """Where each attempt began this series: of what a job did not report itself nothing else is known,
        and for what it did, nothing is added."""
        query = "SELECT step, epoch FROM samples WHERE series = ? AND attempt = ? ORDER BY n LIMIT 1"
        for attempt in self._attempts()[1:]:
            yield Start(attempt, *self._connection.execute(query, (self._series, attempt)).fetchone())

    def _attempts(self) -> list[int]:
        """Goes from one to the next by the key, past their samples."""
        query = (
            "WITH RECURSIVE found (attempt) AS ("
            "SELECT min(attempt) FROM samples WHERE series = :series UNION ALL "
            "SELECT (SELECT min(attempt) FROM samples WHERE series = :series AND attempt > found.attempt) "
            "FROM found WHERE found.attempt IS NOT NULL) "
            "SELECT attempt FROM found WHERE attempt IS NOT NULL ORDER BY attempt"
        )
        return [attempt for (attempt,) in self._connection.execute(query, {"series": self._series})]

    def _newest(self, attempt: int) -> int:
        query = "SELECT max(n) FROM samples WHERE series = ? AND attempt = ?"
        return int(self._connection.execute(query, (self._series, attempt)).fetchone()[0])

    def _first_after(self, attempt: int, since: float) -> int:
        """Looks back from the newest, so that asking again for what is new stays cheap."""
        query = "SELECT n FROM samples WHERE series = ? AND attempt = ? AND time <= ? ORDER BY n DESC LIMIT 1"
        found = self._connection.execute(query, (self._series, attempt, since)).fetchone()
        return found[0] + 1 if found is not None else 0

    def _visible_part(self, segment: Segment, condition: str, values: Values) -> Segment:
        """Where all samples in a row are visible, as they mostly are, later queries need no condition."""
        if order.is_ordered(self._connection, self._series, segment.attempt):
            return self._visible_beginning(segment, condition, values)
        query = f"SELECT min(n), max(n), count(*) FROM samples WHERE {_IN_SEGMENT}{condition}"
        parameters = {**self._values(segment), **values}
        first, last, count = self._connection.execute(query, parameters).fetchone()
        if not count:
            return Segment(segment.attempt, 0, -1)
        if last - first + 1 == count or self._count(Segment(segment.attempt, first, last)) == count:
            return Segment(segment.attempt, first, last)
        return Segment(segment.attempt, first, last, condition, values)

    def _visible_beginning(self, segment: Segment, condition: str, values: Values) -> Segment:
        """Of positions in order: from the first that is superseded on, all are."""
        query = (
            f"SELECT n, 1{condition} FROM samples WHERE series = :series AND attempt = :attempt "
            "AND n BETWEEN :first AND :last ORDER BY n LIMIT 1"
        )
        first, after = segment.first, segment.last + 1
        while first < after:
            middle = (first + after) // 2
            part = msgspec.structs.replace(segment, first=middle, last=after - 1)
            found = self._connection.execute(query, {**self._values(part), **values}).fetchone()
            if found is not None and found[1]:
                first = found[0] + 1
            else:
                after = middle
        return msgspec.structs.replace(segment, last=first - 1)

    def _count(self, segment: Segment) -> int:
        """Samples that are there; some of a long series may have been thinned out."""
        query = f"SELECT count(*) FROM samples WHERE {_IN_SEGMENT}"
        return int(self._connection.execute(query, self._values(segment)).fetchone()[0])

    # ---- which of too many

    def _all(self, segment: Segment, most: int = -1) -> list[Row]:
        query = (
            f"SELECT {_COLUMNS} FROM samples WHERE {_IN_SEGMENT}{segment.condition} ORDER BY n LIMIT :most"
        )
        return self._connection.execute(query, self._values(segment) | {"most": most}).fetchall()

    def _chosen(self, segments: Sequence[Segment], total: int, points: int) -> list[Row]:
        each = 3 if self._has_nan else 2
        buckets = max(1, (points - 2) // each)
        width = -(-total // buckets)
        plain = not any(segment.condition for segment in segments)
        if plain and width >= BLOCK and len(segments) <= buckets // 4:
            return self._by_blocks(segments, total, buckets)
        chosen = set(self._ends(segments))
        for start in range(0, total, width):
            chosen.update(self._extremes(list(_cut(segments, start, start + width))))
        return sorted(chosen, key=lambda row: row[:2])

    def _by_blocks(self, segments: Sequence[Segment], total: int, buckets: int) -> list[Row]:
        """The same for many samples: buckets of whole blocks, the first and last of a segment cut."""
        width = -(-total // (buckets - 2 * len(segments)) // BLOCK) * BLOCK
        rows: list[Row] = []
        for segment in segments:
            found = blocks.extremes(
                self._connection, self._series, segment.attempt, segment.first, segment.last, width
            )
            numbers = {n for bucket in found.values() for n in bucket.numbers}
            if segment is segments[0]:
                numbers.add(segment.first)
            if segment is segments[-1]:
                numbers.add(segment.last)
            rows += self._numbered(segment.attempt, numbers)
        return rows

    def _numbered(self, attempt: int, numbers: Iterable[int]) -> list[Row]:
        query = (
            f"SELECT {_COLUMNS} FROM samples WHERE series = ? AND attempt = ? "
            "AND n IN (SELECT value FROM json_each(?)) ORDER BY n"
        )
        return self._connection.execute(query, (self._series, attempt, json.dumps(list(numbers)))).fetchall()

    def _ends(self, segments: Sequence[Segment]) -> Iterator[Row]:
        first, last = segments[0], segments[-1]
        yield from self._all(msgspec.structs.replace(first, last=first.first))
        yield from self._all(msgspec.structs.replace(last, first=last.last))

    def _extremes(self, bucket: Sequence[Segment]) -> Iterator[Row]:
        """The least, the greatest and the first NaN of a bucket.

        SQLite takes the columns beside min() or max() from the row that it found.
        """
        least = [row for segment in bucket for row in self._one(segment, "min(value)")]
        greatest = [row for segment in bucket for row in self._one(segment, "max(value)")]
        numbers = [row for row in least + greatest if row[2] is not None]
        if numbers:
            yield min(numbers, key=lambda row: row[2] or 0.0)
            yield max(numbers, key=lambda row: row[2] or 0.0)
        if self._has_nan:
            yield from [
                row for segment in bucket for row in self._one(segment, "value", " AND value IS NULL")
            ][:1]

    def _one(self, segment: Segment, value: str, condition: str = "") -> list[Row]:
        columns = _COLUMNS.replace("value", value)
        query = f"SELECT {columns} FROM samples WHERE {_IN_SEGMENT}{segment.condition}{condition} LIMIT 1"
        rows = self._connection.execute(query, self._values(segment)).fetchall()
        return [row for row in rows if row[1] is not None]

    def _values(self, segment: Segment) -> Values:
        bounds = {"attempt": segment.attempt, "first": segment.first, "last": segment.last}
        return {"series": self._series, **bounds, **segment.values}


def _cut(segments: Iterable[Segment], start: int, stop: int) -> Iterator[Segment]:
    """The parts of the segments, laid end to end, from `start` to before `stop`."""
    at = 0
    for segment in segments:
        first, last = max(start - at, 0), min(stop - at, segment.length) - 1
        if first <= last:
            yield msgspec.structs.replace(segment, first=segment.first + first, last=segment.first + last)
        at += segment.length


def _visible(later: Iterable[Start]) -> tuple[str, Values]:
    """SQL that leaves out what the later attempts superseded.

    Positions are compared by epoch and then by step, where both have both (a step may count within
    its epoch); by what they share, where not. Of starts with the same parts the least one decides.
    """
    least: dict[tuple[bool, bool], Start] = {}
    for start in later:
        parts = start.epoch is not None, start.step is not None
        if any(parts) and (parts not in least or _place(start) < _place(least[parts])):
            least[parts] = start
    condition = ""
    values: Values = {}
    for number, start in enumerate(least.values()):
        e, s = f":epoch{number}", f":step{number}"
        condition += (
            f" AND NOT coalesce(CASE WHEN epoch <> {e} THEN epoch > {e}"
            f" WHEN step IS NOT NULL AND {s} IS NOT NULL THEN step >= {s} ELSE epoch >= {e} END, 0)"
        )
        values |= {e[1:]: start.epoch, s[1:]: start.step}
    return condition, values


def _place(start: Start) -> tuple[float, float]:
    return start.epoch or 0.0, start.step or 0.0


def _series(name: str, rows: Sequence[Row]) -> Series:
    return Series(
        name=name,
        step=tuple(row[3] for row in rows),
        time=tuple(row[5] for row in rows),
        value=tuple(shown(row[2]) for row in rows),
        attempt=tuple(row[0] for row in rows),
        epoch=tuple(row[4] for row in rows),
    )


def shown(value: float | None) -> Value:
    """NaN (NULL in the table) and infinity have no number in JSON, but names."""
    if value is None:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return value
