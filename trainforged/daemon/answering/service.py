"""The daemon as its HTTP API sees it: requests become events, memory and storage become answers.

Reads of storage are done off the loop. What changes something goes through the engine, and is
answered once it is on disk.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path

from trainforge.api import (
    CancelRequest,
    DiskAnswer,
    ErrorCode,
    EventList,
    GpuList,
    GpuView,
    JobList,
    JobView,
    MetricsAnswer,
    PathAnswer,
    PruneAnswer,
    PruneRequest,
    RemoveRequest,
    RetryRequest,
    Series,
    StatusAnswer,
    SubmitRequest,
    UpdateRequest,
)
from trainforge.api.report import ReportAnswer
from trainforged.core import messages as m
from trainforged.daemon.accounting.watch import AccountWatch
from trainforged.daemon.answering.lookups import Lookups
from trainforged.daemon.answering.memory import Memory, event_list
from trainforged.daemon.answering.output import Output
from trainforged.daemon.answering.reading import Readers
from trainforged.daemon.answering.refusing import looked_up, stored
from trainforged.daemon.answering.submissions import Submissions, ids
from trainforged.daemon.answering.views import Views
from trainforged.daemon.disks.housekeeping import Housekeeping
from trainforged.daemon.engine import Engine
from trainforged.daemon.insight.whole import DaemonInsight
from trainforged.daemon.watching.devices import DeviceWatch
from trainforged.daemon.watching.use import HistoryWatch
from trainforged.execution.files.store import Files
from trainforged.storage.jobs.store import JobStore
from trainforged.storage.metrics.store import MetricStore
from trainforged.web.errors import ApiProblem, no_such_job
from trainforged.web.live import Live
from trainforged.web.service import Figures, JobFilter, LogFilter, MetricsFilter, PointsFilter

READERS = 1  # of curves at once: together, threads that take turns at each row are slower than one by one


class DaemonService:
    """Implements `web.service.Service`, whose docstrings hold."""

    def __init__(
        self,
        *,
        engine: Engine,
        store: JobStore,
        metrics: MetricStore,
        files: Files,
        live: Live,
        submissions: Submissions,
        views: Views,
        devices: DeviceWatch,
        housekeeping: Housekeeping,
        accounts: AccountWatch,
        figures: Callable[[], Figures],
        output: Output,
        memory: Memory,
        lookups: Lookups,
        user: str,
        state_dir: Path,
        largest_file: Callable[[], int],
        watch: HistoryWatch,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._store = store
        self._metrics = metrics
        self._files = files
        self._live = live
        self._submissions = submissions
        self._views = views
        self._devices = devices
        self._housekeeping = housekeeping
        self._accounts = accounts
        self._figures = figures
        self._output = output
        self._memory = memory
        self._lookups = lookups
        self._user = user
        self._largest_file = largest_file
        self._clock = clock
        self._reading = Readers(READERS)
        self._insight = DaemonInsight(
            store, metrics, files, self.job, state_dir / "jobs", watch, lambda: engine.state.devices
        )

    @property
    def live(self) -> Live:
        return self._live

    @property
    def memory(self) -> Memory:
        return self._memory

    @property
    def insight(self) -> DaemonInsight:
        return self._insight

    # ------------------------------------------------------------ jobs

    async def submit(self, requests: Sequence[SubmitRequest]) -> tuple[JobView, ...]:
        accepted = await stored(self._submissions.submit(requests))
        views = []
        for job_id, request in zip(accepted, requests, strict=True):
            job = await self._job(job_id)
            views.append(self._views.job(job, git=request.git))
        return tuple(views)

    async def job(self, job: int) -> JobView | None:
        return await self._lookups.job(job)

    async def jobs(self, which: JobFilter) -> JobList:
        return await self._lookups.jobs(which)

    async def cancel(self, job: int, request: CancelRequest) -> JobView:
        return await self._order(m.CancelRequested(time=self._clock(), job=job, now=request.now))

    async def hold(self, job: int) -> JobView:
        return await self._order(m.HoldRequested(time=self._clock(), job=job))

    async def release(self, job: int) -> JobView:
        return await self._order(m.ReleaseRequested(time=self._clock(), job=job))

    async def update(self, job: int, request: UpdateRequest) -> JobView:
        known = self._engine.state.jobs.get(job)
        if known is None:
            known = await self._job(job)
        await stored(self._submissions.update(known, request.set))
        return await self._view(job)

    async def retry(self, job: int, request: RetryRequest) -> JobView:
        return await self._view(await stored(self._submissions.retry(job, request)))

    async def remove(self, job: int, request: RemoveRequest) -> JobView:
        before = await self._view(job)
        await self._housekeeping.remove(job, request.keep)
        return before

    async def prune(self, request: PruneRequest) -> PruneAnswer:
        return await self._housekeeping.prune(request)

    async def path(self, job: int) -> PathAnswer:
        await self._job(job)
        return await self._housekeeping.path(job)

    async def _order(self, event: m.CancelRequested | m.HoldRequested | m.ReleaseRequested) -> JobView:
        ids(await stored(self._engine.ask(event)))
        return await self._view(event.job)

    async def _view(self, job_id: int) -> JobView:
        view = await self.job(job_id)
        if view is None:
            raise no_such_job(job_id)
        return view

    async def _job(self, job_id: int) -> m.Job:
        job = await self._lookups.find(job_id)
        if job is None:
            raise no_such_job(job_id)
        return job

    # ------------------------------------------------------------ what jobs say

    async def logs(self, job: int, which: LogFilter) -> AsyncGenerator[bytes, None]:
        return self._output.read(await self._job(job), which)

    async def metrics(self, job: int, which: MetricsFilter) -> MetricsAnswer:
        await self._job(job)
        series, ranks = await self._reading.read(self._series, job, which)
        return MetricsAnswer(job=job, series=series, rank=which.rank, ranks=ranks)

    def _series(self, job: int, which: MetricsFilter) -> tuple[tuple[Series, ...], tuple[int, ...]]:
        found = self._metrics.query(job, which.names, which.since, which.points, which.rank, which.until)
        return found, self._metrics.ranks(job)

    async def points(self, job: int, which: PointsFilter) -> tuple[Series, tuple[int, int] | None]:
        await self._job(job)
        found = await self._reading.read(
            self._metrics.points, job, which.name, which.rank, which.after, which.limit
        )
        if found is None:
            raise ApiProblem(ErrorCode.NOT_FOUND, f"job {job} has reported no series {which.name[:80]!r}")
        return found

    async def events(self, after: int, job: int | None, limit: int) -> EventList:
        if job is None and (known := self._memory.events(after, limit)) is not None:
            return known
        return event_list(await looked_up(self._store.events, after, job, limit), limit)

    # ------------------------------------------------------------ contents of files

    async def missing(self, hashes: Sequence[str]) -> tuple[str, ...]:
        return await looked_up(self._files.missing, hashes)

    async def put_file(self, sha256: str, chunks: AsyncIterator[bytes]) -> None:
        await stored(self._files.put(sha256, chunks, self._largest_file(), durable=False))

    # ------------------------------------------------------------ the machine

    async def gpus(self, history: float | None = None) -> GpuList:
        return self._devices.gpus(history)

    async def drain(self, uuid: str, reason: str | None) -> GpuView:
        event = m.DrainRequested(time=self._clock(), uuid=uuid, reason=reason or "drained by hand")
        return await self._change_gpu(uuid, event)

    async def undrain(self, uuid: str) -> GpuView:
        return await self._change_gpu(uuid, m.UndrainRequested(time=self._clock(), uuid=uuid))

    async def _change_gpu(self, uuid: str, event: m.Event) -> GpuView:
        ids(await stored(self._engine.ask(event)))
        return next(gpu for gpu in self._devices.gpus().gpus if gpu.uuid == uuid)

    async def status(self) -> StatusAnswer:
        return self._memory.status()

    async def figures(self) -> Figures:
        return self._figures()

    async def report(self, since: float) -> ReportAnswer:
        return await stored(self._accounts.report(since))

    async def disk(self) -> DiskAnswer:
        return await self._housekeeping.disk()
