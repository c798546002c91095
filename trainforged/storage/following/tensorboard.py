"""Following what attempts write with TensorBoard: event files become samples and progress.

Each value counts once, also when the daemon is killed between reading and storing: how far a file is read is
committed with what was read of it. What the job reports itself comes first: a series of the same name is left
to it. Work is bounded: how often a job's folder is searched follows from how long a search takes.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from trainforged.storage.following import eventruns
from trainforged.storage.following.eventfolders import EventFile, Identity, open_file, search
from trainforged.storage.following.records import Gathered, LiveAttempt, RecordReader
from trainforged.storage.following.tfevents import TensorBoardEvent, parse
from trainforged.storage.following.tfrecords import Frame, read_frames
from trainforged.storage.metrics.ingestion import Place, Reading
from trainforged.storage.progress import Tracked
from trainforged.storage.recordlines import Report

BYTES_AT_ONCE = 256 * 1024  # read in one `gather`
DRAINED_AT_ONCE = 8 * 2**20  # read of an attempt when it has ended; the rest later
SEARCH_EVERY = 2.0  # seconds between two searches at least
SEARCH_SHARE = 200  # and a search may take this part of the time
LAST_SEARCH = 2_000  # entries looked at for an attempt that ends before it was searched
MOST_KNOWN = 2_000  # files of one attempt: whoever deletes and makes more gets no more in
MOST_NAMES = 4_000  # of series of one attempt that are remembered
_LAST_TIME = 253402300799.0


class _Known:
    """One file of an attempt. `rank` of None: it is not this attempt's."""

    def __init__(self, file: EventFile, place: Place) -> None:
        self.file = file
        self.source = eventruns.source(file)
        self.place = place
        self.size = -1  # at the last look
        self.begun: float | None = None  # time of its first event
        self.rank: int | None = 0
        self.seen: dict[str, int] = {}  # how many values of each tag had no step


class _Attempt:
    """What is known of a live attempt's files."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = roots
        self.files: dict[int, _Known] = {}
        self.next_search = 0.0
        self.searched = False
        self.first_run: str | None = None
        self.tags: set[str] = set()  # that were seen, of all files
        self.owners: dict[tuple[int, str], tuple[int, float]] = {}  # rank, name → source, newest time


class EventFollower:
    """`roots` gives the folders of a job in which it may write (none: not yet known); `avoid` are folders
    not to be entered. Any thread may call any method; they block."""

    def __init__(
        self,
        reader: RecordReader,
        roots: Callable[[int], Sequence[Path]],
        avoid: Sequence[Path] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._roots = roots
        self._avoid = avoid
        self._clock = clock
        self._attempts: dict[tuple[int, int], _Attempt] = {}
        self._late: dict[tuple[int, int], LiveAttempt] = {}  # ended, and not yet read to the end
        self._using = threading.Lock()

    def gather(self, attempts: Sequence[LiveAttempt]) -> tuple[Gathered, ...]:
        """Take in what is new, as `RecordReader.gather`, and with its errors."""
        with self._using:
            budget, gathered = BYTES_AT_ONCE, list[Gathered]()
            for live in (*attempts, *self._late.values()):
                if budget <= 0:
                    break
                known = self._attempt(live)
                if self._clock() >= known.next_search:
                    self._search(live, known)
                budget -= self._take_in(live, known, budget, gathered)
            self._forget({(live.job, live.attempt) for live in attempts})
        return tuple(gathered)

    def drain(self, live: LiveAttempt) -> tuple[Gathered, ...]:
        """Read an attempt that has ended to its end, or so far that nobody waits for long."""
        key = live.job, live.attempt
        with self._using:
            known = self._attempt(live)
            self._search(live, known, LAST_SEARCH if not known.searched else None)
            gathered = list[Gathered]()
            if self._take_in(live, known, DRAINED_AT_ONCE, gathered) >= DRAINED_AT_ONCE:
                self._late[key] = live
            else:
                self._attempts.pop(key, None)
        return tuple(gathered)

    def start_over(self) -> None:
        """The store was begun anew."""
        with self._using:
            self._attempts.clear()

    # ---- which files

    def _attempt(self, live: LiveAttempt) -> _Attempt:
        key = live.job, live.attempt
        if key not in self._attempts:
            self._attempts[key] = _Attempt(self._roots(live.job))
        return self._attempts[key]

    def _forget(self, live: set[tuple[int, int]]) -> None:
        for key in self._attempts.keys() - live - self._late.keys():
            del self._attempts[key]

    def _search(self, live: LiveAttempt, known: _Attempt, entries: int | None = None) -> None:
        start = self._clock()
        avoid = frozenset(filter(None, map(_identity, self._avoid)))
        found = search(known.roots, avoid) if entries is None else search(known.roots, avoid, entries)
        known.searched = True
        known.next_search = start + max(SEARCH_EVERY, (self._clock() - start) * SEARCH_SHARE)
        for file in found:
            source = eventruns.source(file)
            if source not in known.files and len(known.files) < MOST_KNOWN:
                known.files[source] = _Known(file, self._reader.place(live, source))
        for fresh in known.files.values():
            if fresh.begun is None:
                self._identify(live, fresh)
        mine = [f for f in known.files.values() if f.begun is not None and f.rank is not None]
        if mine and known.first_run is None:
            known.first_run = min(mine, key=lambda f: (f.begun or 0.0, f.file.parts)).file.run

    def _identify(self, live: LiveAttempt, known: _Known) -> None:
        """Whose it is: nobody's as long as it has no first event."""
        first = _first_event(known.file)
        start = eventruns.began(live.dir)
        if first is None or start is None:
            return
        until = eventruns.began(live.dir.parent / str(live.attempt + 1))
        known.begun = first.time
        if not start <= first.time < (until or _LAST_TIME):
            known.rank = None
            return
        writer = eventruns.writer(known.file.pid) if known.file.pid is not None else None
        if writer is not None and writer.token == eventruns.token(live.dir):
            known.rank = writer.rank
        elif writer is not None and self._in_place(live, known):
            known.rank = None  # somebody else works in that folder too

    def _in_place(self, live: LiveAttempt, known: _Known) -> bool:
        """The job runs in a folder that is not its own."""
        return live.dir.resolve().parents[1] not in known.file.root.parents

    # ---- what is in them

    def _take_in(self, live: LiveAttempt, known: _Attempt, budget: int, into: list[Gathered]) -> int:
        """Read what is new; how many bytes that were."""
        used = 0
        for file in sorted(known.files.values(), key=lambda f: f.begun or 0.0):
            if file.begun is None or file.rank is None or file.place.in_long_line:
                continue
            while used < budget and (read := self._read(live, known, file, into)):
                used += read
        return used

    def _read(self, live: LiveAttempt, known: _Attempt, file: _Known, into: list[Gathered]) -> int:
        """The next part of one file; 0 where there is nothing."""
        try:
            descriptor = open_file(file.file)
        except OSError:
            return 0
        try:
            size = os.fstat(descriptor).st_size
            if size == file.size:
                return 0
            found = read_frames(descriptor, file.place.offset, BYTES_AT_ONCE // 4)
        except OSError:
            return 0
        finally:
            os.close(descriptor)
        if Place(found.offset, found.broken) == file.place:
            file.size = size
            return 0
        events, damaged = _sound_events(found.frames)
        tags = {scalar.tag for event in events for scalar in event.scalars}
        if (
            tags - known.tags and len(known.tags) < MOST_NAMES
        ):  # the job may have reported them a moment before it wrote them
            known.tags |= tags
            into += self._reader.gather([live])
        before = self._reader.position(live.job)
        told = before is not None and before.source == "report"
        reported = eventruns.alike(before.progress.metrics) if told and before else frozenset[str]()
        reports = [report for event in events for report in _reports(known, file, event, reported)]
        place = Place(found.offset, found.broken or damaged)
        reading = Reading(
            job=live.job,
            attempt=live.attempt,
            rank=file.rank or 0,
            place=place,
            source=file.source,
            reports=tuple(reports),
        )
        said = _said(before, reading) if file.rank == 0 else ()
        into += self._reader.take_in(reading, "events", said)
        read = place.offset - file.place.offset
        file.place = place
        if not found.more:
            file.size = size
        return max(1, min(read, BYTES_AT_ONCE))


def _sound_events(frames: Sequence[Frame]) -> tuple[list[TensorBoardEvent], bool]:
    """Events with scalars, up to the first that is damaged; whether there was one."""
    events = list[TensorBoardEvent]()
    for frame in frames:
        event = parse(frame.content)
        if event is not None and event.scalars:
            if not frame.sound:
                return events, True
            events.append(event)
    return events, False


def _reports(
    known: _Attempt, file: _Known, event: TensorBoardEvent, reported: frozenset[str]
) -> list[Report]:
    """What the event adds to the job's series. Of two writers of one series the first keeps it, until one
    comes that began after its last word: ranks without a known number write the same, stages follow."""
    if not 0.0 <= event.time <= _LAST_TIME:
        return []
    metrics: dict[str, float] = {}
    for scalar in event.scalars:
        name = eventruns.name(scalar.tag, file.file.run, known.first_run or "")
        key = file.rank or 0, name
        owner, newest = known.owners.get(key, (file.source, 0.0))
        taken = owner != file.source and (file.begun or 0.0) < newest
        taken = taken or (key not in known.owners and len(known.owners) >= MOST_NAMES)
        if taken or (reported and eventruns.alike([name]) <= reported):
            continue
        known.owners[key] = file.source, event.time
        metrics[name] = scalar.value
    return [Report(time=event.time, step=_step(file, event), metrics=metrics)] if metrics else []


def _said(before: Tracked | None, reading: Reading) -> tuple[Report, ...]:
    """What the samples tell of the position: steps of one tag may count something else than those of
    another, so that the largest counts; and frameworks write the epoch as one more scalar."""
    here = before is not None and before.attempt == reading.attempt and before.source == "events"
    furthest = (before.progress.step if here and before else None) or 0.0
    said = list[Report]()
    for report in reading.reports:
        ahead = report.step is not None and report.step >= furthest
        furthest = report.step if ahead and report.step is not None else furthest
        epoch = next((v for n, v in report.metrics.items() if n.rpartition("/")[2] == "epoch"), None)
        if epoch is not None and not 0 <= epoch < math.inf:
            epoch = None
        said.append(msgspec.structs.replace(report, step=furthest if ahead else None, epoch=epoch))
    return tuple(said)


def _step(file: _Known, event: TensorBoardEvent) -> float | None:
    """A writer that is given no step writes none: such values are counted."""
    if event.step is not None:
        return float(event.step)
    first = not any(file.seen.get(scalar.tag) for scalar in event.scalars)
    for scalar in event.scalars[:MOST_NAMES]:
        if len(file.seen) < MOST_NAMES:
            file.seen[scalar.tag] = 1
    return 0.0 if first else None


def _first_event(file: EventFile) -> TensorBoardEvent | None:
    try:
        descriptor = open_file(file)
    except OSError:
        return None
    try:
        frames = read_frames(descriptor, 0, 1).frames
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return parse(frames[0].content) if frames else None


def _identity(folder: Path) -> Identity | None:
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino
