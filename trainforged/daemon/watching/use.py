"""What GPUs and jobs use, and what GPUs are taken by, noted each second and written down now and then.

One write in ten seconds holds all that came: an idle daemon costs next to nothing, and `kill -9` at most
those seconds. Whoever reads has the rest written first.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from trainforge.api import Usage
from trainforged.core import messages as m
from trainforged.core.state import State
from trainforged.devices.feed import Feed
from trainforged.devices.inventory import Sample
from trainforged.devices.observe import EXCLUDED
from trainforged.storage.errors import StorageError
from trainforged.storage.metrics.history import Figures, HistoryStore, KeptSpan, Kind, News, SeenGpu

log = logging.getLogger(__name__)

WRITE_EVERY = 10.0  # seconds
JOBS_EVERY = 5.0
AWAY = 15.0  # seconds without a look, after which what a GPU did meanwhile is not known
MOST_NEWS = 20_000  # kept while nothing can be written

What = tuple[Kind, int | None, str | None, int | None, str | None]


class HistoryWatch:
    """All calls belong to the event loop."""

    def __init__(
        self,
        feed: Feed,
        state: State,
        store: HistoryStore,
        usage: Callable[[int], Usage | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._feed = feed
        self._state = state
        self._store = store
        self._usage = usage
        self._clock = clock
        self._gpu_figures: list[tuple[str, int, Figures]] = []
        self._job_figures: list[tuple[int, int, Figures]] = []
        self._open: dict[str, KeptSpan] = {}
        self._closed: list[KeptSpan] = []
        self._before: dict[int, tuple[int, float, Usage]] = {}  # job → attempt, time, usage
        self._resumed = False
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Until cancelled; then the rest is written."""
        written = asked = self._clock()
        try:
            async for samples in self._feed.updates():
                now = self._clock()
                if not self._resumed:
                    await self._resume(now)
                self._note(samples, now)
                if now - asked >= JOBS_EVERY or now < asked:
                    self._note_jobs(now)
                    asked = now
                if now - written >= WRITE_EVERY or now < written:
                    await self.flush()
                    written = now
        finally:
            self._write(self._take())

    async def flush(self) -> None:
        """Write what came, so that a reader sees it."""
        async with self._writing:
            await asyncio.to_thread(self._write, self._take())

    # ---- noting

    def _note(self, samples: Iterable[Sample], now: float) -> None:
        leased = {uuid: lease for lease in self._state.leases.values() for uuid in lease.gpus}
        for sample in samples:
            if sample.uuid and not sample.stale and not sample.lost:
                figures = (sample.utilisation, sample.memory_used, sample.temperature, sample.power)
                self._gpu_figures.append((sample.uuid, int(now), figures))
        del self._gpu_figures[:-MOST_NEWS]
        for uuid, device in self._state.devices.items():
            self._note_span(uuid, self._what(device, leased.get(uuid)), now)

    def _note_span(self, uuid: str, what: What | None, now: float) -> None:
        span = self._open.get(uuid)
        if span is not None:
            self._open[uuid] = span = replace(span, end=now)
            if span.what == what:
                return
            self._closed = [*self._closed, self._open.pop(uuid)][-MOST_NEWS:]
        if what is not None:
            kind, job, name, attempt, reason = what
            self._open[uuid] = KeptSpan(
                uuid=uuid, start=now, end=now, kind=kind, job=job, name=name, attempt=attempt, reason=reason
            )

    def _what(self, device: m.Device, lease: m.Lease | None) -> What | None:
        """What the GPU is taken by: whoever holds it comes first."""
        if lease is not None:
            job = self._state.jobs.get(lease.job)
            return "job", lease.job, job.name if job is not None else None, lease.attempt, None
        if device.missing is not None or device.set_aside is not None:
            return "set_aside", None, None, None, device.refusal
        if device.drained is not None or device.foreign == EXCLUDED:
            return "drained", None, None, None, device.refusal
        if device.foreign is not None:
            return "foreign", None, None, None, device.foreign
        return None

    def _note_jobs(self, now: float) -> None:
        running = {lease.job: lease.attempt for lease in self._state.leases.values() if not lease.releasing}
        for job, attempt in running.items():
            usage = self._usage(job)
            if usage is not None:
                self._job_figures.append((job, int(now), self._figures(job, attempt, usage, now)))
                self._before[job] = attempt, now, usage
        for job in self._before.keys() - running.keys():
            del self._before[job]
        del self._job_figures[:-MOST_NEWS]

    def _figures(self, job: int, attempt: int, usage: Usage, now: float) -> Figures:
        """Bytes are counted from the attempt's start: here as rates."""
        number, then, before = self._before.get(job, (0, 0.0, usage))
        if number != attempt or now <= then:
            return usage.cpu, usage.memory, None, None, None, None
        return (
            usage.cpu,
            usage.memory,
            *(
                max(0, last - first) / (now - then) if last is not None and first is not None else None
                for first, last in (
                    (before.read, usage.read),
                    (before.written, usage.written),
                    (before.received, usage.received),
                    (before.sent, usage.sent),
                )
            ),
        )

    # ---- writing

    def _take(self) -> News:
        news = News(
            gpus=[
                SeenGpu(uuid=d.uuid, index=d.index, name=d.name, memory_total=d.memory_total)
                for d in self._state.devices.values()
            ],
            gpu_figures=self._gpu_figures,
            job_figures=self._job_figures,
            spans=[*self._closed, *self._open.values()],
        )
        self._gpu_figures, self._job_figures, self._closed = [], [], []
        return news

    def _write(self, news: News) -> None:
        """What cannot be written is lost: a gap, of which the log says why."""
        try:
            self._store.write(news, self._clock())
        except StorageError as error:
            log.error("figures of GPUs and jobs are not kept: %s", error)

    async def _resume(self, now: float) -> None:
        """Go on where the last daemon stopped. A job that held its GPU then and holds it now held it
        meanwhile; what else was, nobody knows."""
        self._resumed = True
        try:
            spans = await asyncio.to_thread(self._store.last_spans)
            seen = await asyncio.to_thread(self._store.last_seen)
        except StorageError as error:
            log.error("what GPUs did before cannot be read: %s", error)
            return
        leased = {uuid: lease for lease in self._state.leases.values() for uuid in lease.gpus}
        for uuid, device in self._state.devices.items():
            last = seen.get(uuid)
            span = spans.get(uuid)
            if last is None:
                continue
            lasting = span is not None and span.end >= last - AWAY
            if lasting and span is not None and span.what == self._what(device, leased.get(uuid)):
                self._open[uuid] = span
            elif now - last > AWAY:
                self._closed.append(KeptSpan(uuid=uuid, start=last, end=now, kind="unknown"))
