"""Following what attempts report: records files become samples, progress and notes.

Each record counts once, also when the daemon is killed between reading and storing. A line without its
end waits for it; one that cannot be used is counted and skipped. What one `gather` reads is bounded, so
that a job that reports much delays nobody.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from trainforge.api import Progress
from trainforged.storage.following.recordfiles import (
    LEAST,
    Chunk,
    RecordsFile,
    files_in,
    give_back,
    read_chunk,
)
from trainforged.storage.metrics.ingestion import Note, Place, Reading
from trainforged.storage.metrics.store import MetricStore
from trainforged.storage.progress import Source, Tracked, advance, shown
from trainforged.storage.recordlines import Phase, Record, Report, Rubbish, parse
from trainforged.storage.resting import Rests

BYTES_AT_ONCE = 2 * 2**20  # in one `gather`
FILE_AT_ONCE = 256 * 1024  # of one file in one `gather`
ADVANCED_AT_ONCE = 200  # records; see `Rests`
GIVEN_AT_ONCE = 8 * 2**20  # bytes
LEAST_KEPT = 16 * 2**20
NOTES_AT_ONCE = 100  # of one file in one `gather`


class LiveAttempt(msgspec.Struct, frozen=True):
    """An attempt to read from; `dir` is its folder."""

    job: int
    attempt: int
    dir: Path


class Gathered(msgspec.Struct, frozen=True, kw_only=True):
    """What is new of one attempt. `reports` counts rank 0's; `progress` is the job's latest position, if
    that has moved, without what follows from it (`RecordReader.progress`); `skipped` counts what could not
    be used, by `Rubbish`; `more` is True where the bounds left something to read. `not_finite` says of the
    first loss that is no number which it is."""

    job: int
    attempt: int
    reports: int = 0
    progress: Progress | None = None
    notes: tuple[Note, ...] = ()
    skipped: dict[str, int] = {}
    more: bool = False
    not_finite: str | None = None


class _News(msgspec.Struct, frozen=True):
    """What one file gave."""

    reading: Reading
    skipped: Counter[Rubbish]
    more: bool


class RecordReader:
    """Reads records into a `MetricStore`. Any thread may call any method; all but `progress` of a job that
    is gathered from wait for the disk and for each other. `room`: bytes of a file that stay on the disk once
    they are stored, the newest; with less than `LEAST_KEPT` the last commits could not be read again after a
    power cut."""

    def __init__(self, store: MetricStore, room: Callable[[], float] = lambda: math.inf) -> None:
        self._store = store
        self._room = room
        self._given: dict[tuple[int, int, int], float] = {}  # bytes of each file that were given back
        self._rests = Rests()
        self._places: dict[tuple[int, int, int], Place] = {}
        self._tracked: dict[int, Tracked] = {}
        self._calls = 0
        self._turn = threading.Lock()

    def gather(self, attempts: Sequence[LiveAttempt]) -> tuple[Gathered, ...]:
        """Take in what these attempts have written since the last time; one entry for each with news.

        Raises `StorageFull` or `StorageBroken`, having taken in nothing; the next call tries again.
        """
        with self._turn:
            self._rests.begin()
            news, unread = self._read(attempts)
            if not news:
                return ()
            refused = self._store.ingest([entry.reading for entry in news], self._rests.rest)
            for entry in news:
                self._remember(entry.reading)
        return tuple(
            _gathered(live, mine, refused[live.job], live in unread)
            for live in attempts
            if (mine := [e for e in news if (e.reading.job, e.reading.attempt) == (live.job, live.attempt)])
        )

    def hurry(self) -> AbstractContextManager[None]:
        """Meanwhile nobody who reads rests, in whatever thread: somebody waits for it."""
        return self._rests.hurry()

    def drain(self, live: LiveAttempt) -> tuple[Gathered, ...]:
        """Read an attempt that has ended to its end, and keep nothing of it in memory."""
        gathered: list[Gathered] = []
        with self._rests.hurry():
            while news := self.gather([live]):
                gathered += news
        with self._turn:
            ended = live.job, live.attempt
            self._places = {key: place for key, place in self._places.items() if key[:2] != ended}
            self._given = {key: upto for key, upto in self._given.items() if key[:2] != ended}
            self._tracked.pop(live.job, None)
        return tuple(gathered)

    def take_in(self, reading: Reading, source: Source, said: Sequence[Report]) -> tuple[Gathered, ...]:
        """Store what was read elsewhere than in records; `said` tells of the position. As `gather`."""
        with self._turn:
            before = self._position(reading.job)
            tracked = advance(before, reading.attempt, said, source) if said else before
            moved = tracked if tracked != before else None
            reading = msgspec.structs.replace(reading, tracked=moved)
            refused = self._store.ingest([reading])[reading.job]
            if moved is not None:
                self._tracked[reading.job] = moved
        entry = Gathered(
            job=reading.job,
            attempt=reading.attempt,
            reports=len(said),
            progress=moved.progress if moved is not None else None,
            skipped={Rubbish.TOO_MANY_SERIES: refused} if refused else {},
        )
        return (entry,)

    def place(self, live: LiveAttempt, source: int) -> Place:
        """How far the file of this number, which is none of records, is read."""
        return self._store.place(live.job, live.attempt, source)

    def position(self, job: int) -> Tracked | None:
        """The job's latest, and where it is known from."""
        with self._turn:
            return self._position(job)

    def latest(self, job: int, now: float | None = None) -> Progress | None:
        """As `progress`, of a job that is gathered from; None of others: the store is not read."""
        tracked = self._tracked.get(job)
        return shown(tracked, now) if tracked is not None else None

    def phase(self, job: int, attempt: int) -> str | None:
        """The innermost phase that this attempt has announced and not ended, also to a reader before this
        one. Reads the store only for jobs that were not gathered from."""
        tracked = self._tracked.get(job) or self._store.tracked([job]).get(job)
        return (
            tracked.phases[-1]
            if tracked is not None and tracked.attempt == attempt and tracked.phases
            else None
        )

    def progress(self, job: int, now: float | None = None) -> Progress | None:
        """The job's latest position with the time left at `now` (seconds since the epoch); None if it
        reported none. Reads the store only for jobs that were not gathered from."""
        return self.progresses([job], now).get(job)

    def progresses(self, jobs: Sequence[int], now: float | None = None) -> dict[int, Progress]:
        """As `progress`, for many: those of the jobs that reported a position."""
        known = {job: tracked for job in jobs if (tracked := self._tracked.get(job)) is not None}
        missing = [job for job in jobs if job not in known]
        known |= self._store.tracked(missing) if missing else {}
        return {job: shown(tracked, now) for job, tracked in known.items()}

    def forget(self, job: int) -> None:
        """Remove all of a removed job, from the store too."""
        with self._turn:
            self._store.forget(job)
            self._places = {key: place for key, place in self._places.items() if key[0] != job}
            self._tracked.pop(job, None)

    def start_over(self) -> Path:
        """As `MetricStore.start_over`, for when `gather` raised `StorageDamaged`. `read_everything` then
        fills the new store."""
        with self._turn:
            aside = self._store.start_over()
            self._places.clear()
            self._tracked.clear()
        return aside

    def _read(self, attempts: Sequence[LiveAttempt]) -> tuple[list[_News], list[LiveAttempt]]:
        """What is new, within the bounds, and the attempts that had to wait. Whoever had to wait comes
        first next time."""
        files = [(live, file) for live in attempts for file in files_in(live.dir)]
        self._calls += 1
        turn = self._calls % len(files) if files else 0
        budget, news, waiting = BYTES_AT_ONCE, [], []
        moved: dict[int, Tracked] = {}
        for live, file in files[turn:] + files[:turn]:
            place = self._place(live, file.rank)
            self._give_back(live, file, place)
            if budget < LEAST:
                waiting += [live] if file.size > place.offset else []
                continue
            chunk = self._chunk(file, place, min(budget, FILE_AT_ONCE))
            if chunk is not None:
                budget -= chunk.place.offset - place.offset
                news.append(self._digest(live, file.rank, chunk, moved))
        return news, waiting

    def _give_back(self, live: LiveAttempt, file: RecordsFile, place: Place) -> None:
        """The beginning of what is stored, where it is more than is to be kept."""
        key = live.job, live.attempt, file.rank
        upto = place.offset - max(self._room(), LEAST_KEPT)
        if upto < self._given.get(key, 0) + GIVEN_AT_ONCE:
            return
        self._given[key] = upto
        with contextlib.suppress(OSError):  # a file system without holes: it stays
            give_back(file.path, int(upto))

    def _chunk(self, file: RecordsFile, place: Place, limit: int) -> Chunk | None:
        try:
            return read_chunk(file, place, limit)
        except OSError:  # gone again, or not to be read: the job's own doing
            return None

    def _digest(self, live: LiveAttempt, rank: int, chunk: Chunk, moved: dict[int, Tracked]) -> _News:
        """`moved` holds what has changed in this call, and is not yet committed."""
        skipped = Counter(chunk.skipped)
        records: list[Record] = []
        for line in filter(None, chunk.lines):
            self._rests.rest()
            record = parse(line)
            if isinstance(record, Rubbish):
                skipped[record] += 1
            else:
                records.append(record)
        notes = [
            Note(job=live.job, attempt=live.attempt, rank=rank, record=record)
            for record in records
            if not isinstance(record, Report | Phase)
        ]
        skipped[Rubbish.TOO_MANY_NOTES] += max(0, len(notes) - NOTES_AT_ONCE)
        tracked = None
        if rank == 0 and any(isinstance(record, Report | Phase) for record in records):
            before = moved.get(live.job) or self._position(live.job)
            moved[live.job] = tracked = self._advanced(before, live.attempt, records)
        reading = Reading(
            job=live.job,
            attempt=live.attempt,
            rank=rank,
            place=chunk.place,
            reports=tuple(record for record in records if isinstance(record, Report)),
            notes=tuple(notes[-NOTES_AT_ONCE:]),
            tracked=tracked,
        )
        return _News(reading, +skipped, chunk.more)

    def _advanced(self, before: Tracked | None, attempt: int, records: Sequence[Record]) -> Tracked:
        """As `advance`, with rests."""
        tracked = advance(before, attempt, records[:ADVANCED_AT_ONCE])
        for start in range(ADVANCED_AT_ONCE, len(records), ADVANCED_AT_ONCE):
            self._rests.rest()
            tracked = advance(tracked, attempt, records[start : start + ADVANCED_AT_ONCE])
        return tracked

    def _place(self, live: LiveAttempt, rank: int) -> Place:
        key = live.job, live.attempt, rank
        if key not in self._places:
            self._places[key] = self._store.place(*key)
        return self._places[key]

    def _position(self, job: int) -> Tracked | None:
        return self._tracked.get(job) or self._store.tracked([job]).get(job)

    def _remember(self, reading: Reading) -> None:
        self._places[reading.job, reading.attempt, reading.rank] = reading.place
        if reading.tracked is not None:
            self._tracked[reading.job] = reading.tracked


def read_everything(
    reader: RecordReader, jobs: Path, also: Callable[[LiveAttempt], object] = lambda live: None
) -> None:
    """Read the records of all attempts below the folder `jobs` (`<state folder>/jobs`): what has been read
    already is passed over, so that this fills a store that was lost. Others may gather meanwhile. `also` is
    called with each attempt when its records are read."""
    for live in attempts_below(jobs):
        reader.drain(live)
        also(live)


def attempts_below(jobs: Path) -> Iterator[LiveAttempt]:
    """Of all jobs, oldest first."""
    for job in _numbered(jobs):
        for attempt in _numbered(jobs / str(job) / "attempts"):
            yield LiveAttempt(job, attempt, jobs / str(job) / "attempts" / str(attempt))


def times_of_signs(folder: Path, most: int = 4 * BYTES_AT_ONCE) -> list[float]:
    """When rank 0 of the attempt with this folder gave signs, by its own clock: what the newest `most` bytes
    of its records tell. Blocks."""
    for file in files_in(folder):
        if file.rank == 0:
            try:
                chunk = read_chunk(file, Place(max(0, file.size - most), file.size > most), most)
            except OSError:
                return []
            records = map(parse, filter(None, chunk.lines)) if chunk is not None else ()
            return [record.time for record in records if not isinstance(record, Rubbish)]
    return []


def _numbered(folder: Path) -> list[int]:
    try:
        return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _gathered(live: LiveAttempt, news: Sequence[_News], refused: int, waiting: bool) -> Gathered:
    skipped: Counter[str] = Counter({Rubbish.TOO_MANY_SERIES: refused} if refused else {})
    for entry in news:
        skipped.update(entry.skipped)
    tracked = [entry.reading.tracked for entry in news if entry.reading.tracked is not None]
    return Gathered(
        job=live.job,
        attempt=live.attempt,
        reports=sum(len(entry.reading.reports) for entry in news if entry.reading.rank == 0),
        progress=tracked[-1].progress if tracked else None,
        notes=tuple(note for entry in news for note in entry.reading.notes),
        skipped=dict(skipped),
        more=waiting or any(entry.more for entry in news),
        not_finite=next(filter(None, (_not_finite(entry.reading) for entry in news)), None),
    )


def _not_finite(reading: Reading) -> str | None:
    for report in reading.reports:
        for name, value in report.metrics.items():
            if value - value != 0 and "loss" in name.lower():  # NaN or infinite
                at = "" if report.step is None else f" at step {report.step:g}"
                return f"rank {reading.rank} reported {name} = {value}{at}"
    return None
