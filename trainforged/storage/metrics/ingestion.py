"""What was read from records files, as rows of metrics.db.

An `Ingestion` remembers series and the numbers of their next samples between transactions; after one
that failed it must be thrown away.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import msgspec

from trainforged.storage.metrics import blocks, order
from trainforged.storage.metrics.blocks import BLOCK
from trainforged.storage.progress import Tracked
from trainforged.storage.recordlines import Checkpoint, CheckpointSkipped, Report, Resumed, Stopping

MOST_SERIES = 1000  # of one job and rank
LONGEST_NAME = 200
MOST_SLOTS = 20_000
AT_ONCE = 128  # samples of one statement: SQLite gives the interpreter away, and wants it back, for each
_ONE = "(?, ?, ?, ?, ?, ?, ?)"
_INSERT_SOME = f"INSERT INTO samples VALUES {', '.join([_ONE] * AT_ONCE)}"

Notable = Resumed | Checkpoint | CheckpointSkipped | Stopping


class Place(msgspec.Struct, frozen=True):
    """How far a records file is read: bytes, and whether that is in the middle of a line to be skipped."""

    offset: int = 0
    in_long_line: bool = False


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A record worth a line of history."""

    job: int
    attempt: int
    rank: int
    record: Notable


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one read of one records file gave, and the place after it. `tracked` is the job's new
    position, where it has changed. `source`: it was another file than the rank's records, of this number
    (negative), and does not say where the attempt began."""

    job: int
    attempt: int
    rank: int
    place: Place
    reports: tuple[Report, ...] = ()
    notes: tuple[Note, ...] = ()
    tracked: Tracked | None = None
    source: int | None = None

    @property
    def file(self) -> int:
        """What `places` knows the file by."""
        return self.rank if self.source is None else self.source


class _Slot:
    """Where the next sample of one series and attempt goes."""

    __slots__ = ("epoch", "has_nan", "next", "ordered", "series", "step")

    def __init__(self, series: int, has_nan: bool) -> None:
        self.series = series
        self.has_nan = has_nan
        self.ordered = True
        self.next = 0
        self.step: float | None = None  # of the sample before, where there is one
        self.epoch: float | None = None

    def goes_on(self, report: Report) -> bool:
        """The report's position does not go back; it is remembered."""
        before, self.step, self.epoch = (self.step, self.epoch), report.step, report.epoch
        return not self.next or (
            order.follows(before[0], report.step) and order.follows(before[1], report.epoch)
        )


_Key = tuple[int, int, int, str]  # job, attempt, rank, name
_Sample = tuple[int, int, int, float, float | None, float | None, float]


class Ingestion:
    """Writes readings inside a transaction that the caller begins and ends."""

    def __init__(self) -> None:
        self._slots: dict[_Key, _Slot | None] = {}  # None: refused
        self._started: set[tuple[int, int]] = set()

    def write(
        self,
        connection: sqlite3.Connection,
        readings: Sequence[Reading],
        rest: Callable[[], None] = lambda: None,
    ) -> Counter[int]:
        """Returns the number of values refused, by job. `rest` is called at every report."""
        if len(self._slots) > MOST_SLOTS:
            self._slots.clear()
            self._started.clear()
        refused: Counter[int] = Counter()
        for reading in readings:
            whole: list[tuple[int, int, int]] = []
            _insert(connection, self._samples(connection, reading, refused, whole, rest))
            blocks.note(connection, whole)
            if reading.file == 0:
                self._note_start(connection, reading)
            self._write_rest(connection, reading)
        return refused

    def _samples(
        self,
        connection: sqlite3.Connection,
        reading: Reading,
        refused: Counter[int],
        whole: list[tuple[int, int, int]],
        rest: Callable[[], None],
    ) -> Iterator[_Sample]:
        """Adds to `whole` the blocks that become so."""
        job, attempt, rank = reading.job, reading.attempt, reading.rank
        for report in reading.reports:
            rest()
            for name, value in report.metrics.items():
                key = (job, attempt, rank, name)
                slot = self._slots[key] if key in self._slots else self._find_slot(connection, key)
                if slot is None:
                    refused[job] += 1
                    continue
                if value != value and not slot.has_nan:
                    connection.execute("UPDATE series SET has_nan = 1 WHERE id = ?", (slot.series,))
                    slot.has_nan = True
                if slot.ordered and not slot.goes_on(report):
                    order.note(connection, slot.series, attempt)
                    slot.ordered = False
                yield slot.series, attempt, slot.next, value, report.step, report.epoch, report.time
                slot.next += 1
                if slot.next % BLOCK == 0:
                    whole.append((slot.series, attempt, slot.next // BLOCK - 1))

    def _find_slot(self, connection: sqlite3.Connection, key: _Key) -> _Slot | None:
        job, attempt, rank, name = key
        query = "SELECT id, has_nan FROM series WHERE job = ? AND rank = ? AND name = ?"
        found = connection.execute(query, (job, rank, name)).fetchone() or self._new_series(connection, key)
        slot = None
        if found is not None:
            slot = _Slot(found[0], bool(found[1]))
            slot.ordered = order.is_ordered(connection, slot.series, attempt)
            newest = (
                "SELECT n, step, epoch FROM samples WHERE series = ? AND attempt = ? ORDER BY n DESC LIMIT 1"
            )
            if (last := connection.execute(newest, (slot.series, attempt)).fetchone()) is not None:
                slot.next, slot.step, slot.epoch = last[0] + 1, last[1], last[2]
        self._slots[key] = slot
        return slot

    def _new_series(self, connection: sqlite3.Connection, key: _Key) -> tuple[int, int] | None:
        job, _, rank, name = key
        count = "SELECT count(*) FROM series WHERE job = ? AND rank = ?"
        (series,) = connection.execute(count, (job, rank)).fetchone()
        if series >= MOST_SERIES or not 0 < len(name) <= LONGEST_NAME:
            return None
        query = "INSERT INTO series (job, rank, name) VALUES (?, ?, ?)"
        return connection.execute(query, (job, rank, name)).lastrowid or 0, 0

    def _note_start(self, connection: sqlite3.Connection, reading: Reading) -> None:
        """The first report with a position says where the attempt began."""
        key = reading.job, reading.attempt
        first = next((r for r in reading.reports if r.step is not None or r.epoch is not None), None)
        if key in self._started or first is None:
            return
        query = "INSERT INTO starts VALUES (?, ?, ?, ?) ON CONFLICT (job, attempt) DO NOTHING"
        connection.execute(query, (*key, first.step, first.epoch))
        self._started.add(key)

    def _write_rest(self, connection: sqlite3.Connection, reading: Reading) -> None:
        job, attempt, rank, place = reading.job, reading.attempt, reading.rank, reading.place
        connection.execute(
            "INSERT INTO places VALUES (?, ?, ?, ?, ?) ON CONFLICT (job, attempt, rank) "
            "DO UPDATE SET offset = excluded.offset, in_long_line = excluded.in_long_line",
            (job, attempt, reading.file, place.offset, place.in_long_line),
        )
        connection.executemany(
            "INSERT INTO notes (job, attempt, rank, body) VALUES (?, ?, ?, ?)",
            [(job, attempt, rank, msgspec.json.encode(note).decode()) for note in reading.notes],
        )
        if reading.tracked is not None:
            connection.execute(
                "INSERT INTO progress VALUES (?, ?) ON CONFLICT (job) DO UPDATE SET body = excluded.body",
                (job, msgspec.json.encode(reading.tracked).decode()),
            )


def _insert(connection: sqlite3.Connection, samples: Iterator[_Sample]) -> None:
    """What makes the samples may read the database meanwhile, though not those that were just made."""
    while some := list(itertools.islice(samples, AT_ONCE)):
        if len(some) < AT_ONCE:
            connection.executemany(f"INSERT INTO samples VALUES {_ONE}", some)
        else:
            connection.execute(_INSERT_SOME, list(itertools.chain.from_iterable(some)))
