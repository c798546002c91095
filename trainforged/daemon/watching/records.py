"""What running jobs report: read into storage, told to the core, shown to whoever watches."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from trainforge.api import JobProgress, Progress, Usage
from trainforged.core import messages as m
from trainforged.daemon.disks.bounded import bounded
from trainforged.daemon.engine import Engine
from trainforged.storage.errors import StorageDamaged, StorageError
from trainforged.storage.following.outputprogress import OutputFollower
from trainforged.storage.following.records import Gathered, LiveAttempt, RecordReader, read_everything
from trainforged.storage.following.tensorboard import EventFollower
from trainforged.storage.metrics.ingestion import Note
from trainforged.storage.recordlines import Checkpoint, CheckpointSkipped, Resumed
from trainforged.web.live import Live

log = logging.getLogger(__name__)

INTERVAL = 0.5  # seconds from one look to the next
SHORTEST = 0.1  # seconds between two looks, where one takes long
EPOCH = 1e9  # more steps than an epoch has
LONGEST_ANSWER = 5.0  # seconds that the disks of jobs have to answer
LAST_ANSWER = 1.0  # and when the daemon stops
TOLD_EVERY = 1.0  # seconds between two words to the core about one job


class RecordWatch:
    """Follows the records of live attempts. Reading is done off the loop, one call at a time. `sign` is
    told of each attempt that has written something, and how much."""

    def __init__(
        self,
        reader: RecordReader,
        engine: Engine,
        live: Live,
        attempt_dir: Callable[[int, int], Path],
        usage: Callable[[int], Usage | None],
        jobs_dir: Path,
        sign: Callable[[int, int, int], None],
        events: EventFollower,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._jobs_dir = jobs_dir
        self._sign = sign
        self._reader = reader
        self._events = events
        self._output = OutputFollower(reader)
        self._engine = engine
        self._live = live
        self._attempt_dir = attempt_dir
        self._usage = usage
        self._clock = clock
        self._told: dict[int, float] = {}
        self._warned: set[tuple[int, int]] = set()  # attempts whose loss was seen to be no number
        self._reading = asyncio.Lock()
        self._answered = threading.Event()  # not set while event files are looked at
        self._answered.set()

    async def run(self) -> None:
        """Follow until cancelled."""
        took = 0.0
        while True:
            await asyncio.sleep(max(SHORTEST, INTERVAL - took))
            began = time.monotonic()
            live = self._live_attempts()
            if live:
                await self._gather(live)
            took = time.monotonic() - began

    async def rebuild(self) -> None:
        """Fill metric storage that was damaged, and begun anew, from the records of all attempts."""
        log.warning("metric storage is being rebuilt from the records of all jobs")
        await asyncio.to_thread(read_everything, self._reader, self._jobs_dir, self._events.drain)

    async def start_over(self) -> Path:
        """Begin metric storage anew, and fill it; returns where the old one lies. Raises `StorageError`."""
        async with self._reading:
            aside = await asyncio.to_thread(self._reader.start_over)
            await self._follow(self._forget_events)
        await self.rebuild()
        return aside

    def _forget_events(self) -> tuple[Gathered, ...]:
        self._events.start_over()
        return ()

    async def finish(self, job: int, attempt: int) -> float | None:
        """Read an attempt that has ended to its end: its last report may decide what its end means.
        The position that it came to, if it reported any."""
        live = LiveAttempt(job, attempt, self._attempt_dir(job, attempt))
        with self._reader.hurry():
            gathered = await self._read(partial(self._drain, live), partial(self._events.drain, live))
        self._told.pop(job, None)
        self._tell(gathered)
        self._warned.discard((job, attempt))
        try:
            known = await asyncio.to_thread(self._reader.position, job)
            return _position(known.progress) if known is not None and known.source != "output" else None
        except StorageError as error:
            log.error("the position of job %d is not known: %s", job, error)
            return None

    def _drain(self, live: LiveAttempt) -> tuple[Gathered, ...]:
        gathered = self._reader.drain(live)
        _guarded(partial(self._output.drain, live))
        return gathered

    def _gather_all(self, live: list[LiveAttempt]) -> tuple[Gathered, ...]:
        gathered = self._reader.gather(live)
        _guarded(partial(self._output.gather, live))
        return gathered

    async def _read(
        self, read: Callable[[], tuple[Gathered, ...]], follow: Callable[[], tuple[Gathered, ...]]
    ) -> tuple[Gathered, ...]:
        """What a call of the reader gives, then what event files do; nothing, with a word, where storage
        refuses."""
        try:
            async with self._reading:
                return (*await asyncio.to_thread(read), *await self._follow(follow))
        except StorageDamaged as error:
            log.error("%s", error)
            await self.start_over()
        except StorageError as error:
            log.error("records were not read: %s", error)
        return ()

    async def _follow(self, follow: Callable[[], tuple[Gathered, ...]]) -> tuple[Gathered, ...]:
        """What event files give. They lie in the jobs' own folders, on disks that may never answer: one that
        does not is left until it does, and nobody else waits for it."""
        if not self._answered.is_set():
            return ()
        self._answered.clear()

        def work() -> tuple[Gathered, ...]:
            try:
                return _guarded(follow)
            finally:
                self._answered.set()

        try:
            return await bounded(work, LONGEST_ANSWER)
        except TimeoutError:
            log.warning("a disk of a job does not answer; event files of jobs are not followed until it does")
            return ()
        except asyncio.CancelledError:
            await asyncio.to_thread(self._answered.wait, LAST_ANSWER)  # storage is closed soon
            raise

    def _live_attempts(self) -> list[LiveAttempt]:
        leases = self._engine.state.leases.values()
        return [
            LiveAttempt(lease.job, lease.attempt, self._attempt_dir(lease.job, lease.attempt))
            for lease in leases
            if not lease.releasing
        ]

    async def _gather(self, live: list[LiveAttempt]) -> None:
        self._tell(await self._read(partial(self._gather_all, live), partial(self._events.gather, live)))
        if self._live.watched:
            self._show(entry.job for entry in live)

    def _tell(self, gathered: Iterable[Gathered]) -> None:
        now = self._clock()
        for entry in gathered:
            if signs := entry.reports + len(entry.notes) or int(entry.progress is not None):
                self._sign(entry.job, entry.attempt, signs)
            if entry.reports and now - self._told.get(entry.job, 0.0) >= TOLD_EVERY:
                self._told[entry.job] = now
                self._engine.tell(
                    m.Progressed(
                        time=now,
                        job=entry.job,
                        attempt=entry.attempt,
                        position=_position(entry.progress),
                    )
                )
            self._look_at_loss(entry, now)
            for note in entry.notes:
                event = _event(note, now)
                if event is not None:
                    self._engine.tell(event)
            if entry.skipped:
                log.warning("job %d: records that cannot be used: %s", entry.job, dict(entry.skipped))

    def _look_at_loss(self, entry: Gathered, now: float) -> None:
        key = entry.job, entry.attempt
        if entry.not_finite is not None and key not in self._warned:
            self._warned.add(key)
            self._engine.tell(m.LossNotFinite(time=now, job=key[0], attempt=key[1], message=entry.not_finite))

    def _show(self, jobs: Iterable[int]) -> None:
        known = self._reader.progresses(list(jobs), self._clock())
        for job, progress in known.items():
            if self._reader.latest(job) is None:  # it is of an attempt that is over
                progress = replace(progress, eta=None)
            self._live.progress(JobProgress(job=job, progress=progress, usage=self._usage(job)))


def _guarded(follow: Callable[[], tuple[Gathered, ...] | None]) -> tuple[Gathered, ...]:
    """What jobs write beside their records may be anything: it must not keep records from being read."""
    try:
        return follow() or ()
    except StorageError:
        raise
    except Exception:
        log.exception("what jobs write beside their records could not be followed")
        return ()


def _position(progress: Progress | None) -> float | None:
    """Epoch first, then step: a step may begin anew with each epoch."""
    if progress is None or (progress.epoch is None and progress.step is None):
        return None
    return (progress.epoch or 0.0) * EPOCH + min(progress.step or 0.0, EPOCH - 1)


def _event(note: Note, now: float) -> m.Noted | None:
    """A line of history for what rank 0 says of checkpoints."""
    record = note.record
    match record:
        case _ if note.rank != 0:
            return None
        case Checkpoint():
            words = f"checkpoint saved at {record.step:g}"
            return m.Noted(time=now, job=note.job, type="checkpoint_saved", message=words)
        case Resumed():
            words = f"continues from the checkpoint at {record.step:g}"
            return m.Noted(time=now, job=note.job, type="resumed", message=words)
        case CheckpointSkipped():
            named = f" {Path(record.path).name}" if record.path else ""
            words = f"checkpoint{named} passed over: {record.problem}"
            return m.Noted(time=now, job=note.job, type="checkpoint_skipped", message=words)
    return None
