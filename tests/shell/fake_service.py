"""A service without a daemon: jobs in a dict, events in a list, contents in memory.

It keeps the promises of `trainforged.web.service.Service` that the tests of the web layer and of
the client rely on; jobs never run, tests move them with `happen`.
"""

from __future__ import annotations

import asyncio
import datetime
import fnmatch
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import msgspec

from tests.shell.fake_insight import FakeInsight
from tests.shell.fake_memory import FakeMemory
from trainforge.api import (
    AttemptView,
    CancelRequest,
    CheckpointView,
    DiskAnswer,
    DiskEntry,
    ErrorCode,
    ErrorDetail,
    EventList,
    EventView,
    GpuHistory,
    GpuList,
    GpuView,
    JobList,
    JobView,
    MetricsAnswer,
    PathAnswer,
    PruneAnswer,
    PruneRequest,
    RemoveRequest,
    ResourceView,
    RetryRequest,
    Series,
    StatusAnswer,
    SubmitRequest,
    UpdateRequest,
)
from trainforge.api.report import ReportAnswer
from trainforge.states import JobState
from trainforged.web.errors import ApiProblem, no_such_job
from trainforged.web.live import Live
from trainforged.web.service import Figures, JobFilter, LogFilter, MetricsFilter, PointsFilter

NOW = datetime.datetime(2026, 11, 22, 10, tzinfo=datetime.UTC)
UUID = "GPU-00000000-0000-0000-0000-000000000001"


class FakeService:
    def __init__(self, *, keep: int = 2000) -> None:
        self.live = Live(keep=keep)
        self.all: dict[int, JobView] = {}
        self.now = NOW
        self.memory = FakeMemory(self)
        self.insight = FakeInsight(self._find)
        self.requests: dict[str, int] = {}
        self.history: list[EventView] = []
        self.contents: dict[str, bytes] = {}
        self.output: dict[int, list[bytes]] = {}
        self.written = asyncio.Condition()
        self.followers = 0
        self.drained: str | None = None
        self.reported_since = 0.0
        self.broken: Exception | None = None  # raised by `status`
        self.slow = 0.0  # seconds that `submit` takes
        self.entered = 0  # calls of `submit`

    # what tests do to it

    def happen(self, type: str, job: int | None = None, message: str = "it happened") -> EventView:
        event = EventView(id=len(self.history) + 1, time=NOW, type=type, job=job, message=message)
        self.history.append(event)
        self.live.publish([event])
        return event

    def end(self, job: int, state: JobState = JobState.SUCCEEDED) -> None:
        self.all[job] = msgspec.structs.replace(self.all[job], state=state, ended_at=NOW)
        self.happen("job_ended", job)

    async def write(self, job: int, data: bytes) -> None:
        async with self.written:
            self.output.setdefault(job, []).append(data)
            self.written.notify_all()

    # the service

    async def submit(self, requests: Sequence[SubmitRequest]) -> tuple[JobView, ...]:
        self.entered += 1
        if self.slow:
            await asyncio.sleep(self.slow)
        for position, request in enumerate(requests):
            if "project" not in request.spec:
                detail = ErrorDetail(path=f"[{position}].spec.project", message="required")
                raise ApiProblem(ErrorCode.INVALID_SPEC, "project: required", [detail])
        return tuple(self._accept(request) for request in requests)

    def _accept(self, request: SubmitRequest) -> JobView:
        if request.request_id in self.requests:
            return self.all[self.requests[request.request_id]]
        job = JobView(
            id=len(self.requests) + 1, name=request.spec["project"]["name"], user="alice",
            state=JobState.HELD if request.hold else JobState.QUEUED, reason=None, priority=0,
            submitted_at=NOW, started_at=None, ended_at=None,
            resources=ResourceView(gpu=1, cpu=4, memory=None), gpus=(), gpu_indices=(), attempt=0,
            retries=0, exit_code=None, git=request.git, progress=None, usage=None, why="it waits",
            dir="/state/jobs/1", elapsed=0.0,
        )  # fmt: skip
        self.all[job.id] = job
        self.requests[request.request_id] = job.id
        self.happen("job_submitted", job.id)
        return job

    def _find(self, job: int) -> JobView:
        if job not in self.all:
            raise no_such_job(job)
        return self.all[job]

    async def job(self, job: int) -> JobView | None:
        return self.whole(job)

    def whole(self, job: int) -> JobView | None:
        found = self.all.get(job)
        return found and msgspec.structs.replace(
            found, attempts=(AttemptView(number=1, gpus=(UUID,), started_at=NOW),), spec={"project": {}}
        )

    async def jobs(self, which: JobFilter) -> JobList:
        if which.cursor is not None and not which.cursor.isdigit():
            raise ApiProblem(ErrorCode.INVALID_REQUEST, "cursor: not one of ours")
        found = [
            job
            for job in reversed(self.all.values())
            if (not which.states or job.state in which.states)
            and which.user in (None, job.user)
            and fnmatch.fnmatchcase(job.name, which.name or "*")
        ]
        start = int(which.cursor or 0)
        end = start + which.limit
        return JobList(jobs=tuple(found[start:end]), next=str(end) if end < len(found) else None)

    def _move(self, job: int, state: JobState, event: str) -> JobView:
        found = self._find(job)
        if found.state.ended:
            raise ApiProblem(ErrorCode.CONFLICT, f"job {job} has ended")
        self.all[job] = msgspec.structs.replace(found, state=state)
        self.happen(event, job)
        return self.all[job]

    async def cancel(self, job: int, request: CancelRequest) -> JobView:
        return self._move(job, JobState.CANCELLED, "cancelled_now" if request.now else "job_cancelled")

    async def hold(self, job: int) -> JobView:
        return self._move(job, JobState.HELD, "job_held")

    async def release(self, job: int) -> JobView:
        return self._move(job, JobState.QUEUED, "job_released")

    async def update(self, job: int, request: UpdateRequest) -> JobView:
        found = self._find(job)
        if set(request.set) != {"schedule.priority"}:
            raise ApiProblem(ErrorCode.INVALID_SPEC, "only schedule.priority can be changed here")
        self.all[job] = msgspec.structs.replace(found, priority=request.set["schedule.priority"])
        return self.all[job]

    async def retry(self, job: int, request: RetryRequest) -> JobView:
        spec = {"project": {"name": self._find(job).name}}
        return self._accept(SubmitRequest(spec=spec, request_id=request.request_id))

    async def remove(self, job: int, request: RemoveRequest) -> JobView:
        if not self._find(job).state.ended:
            raise ApiProblem(ErrorCode.CONFLICT, f"job {job} has not ended")
        self.happen("job_removed" if request.keep is None else f"job_removed_but_{request.keep}", job)
        return self.all.pop(job)

    async def prune(self, request: PruneRequest) -> PruneAnswer:
        ended = tuple(job.id for job in self.all.values() if job.state.ended)
        for job in () if request.dry_run else ended:
            del self.all[job]
        return PruneAnswer(jobs=ended, freed=100 * len(ended))

    async def path(self, job: int) -> PathAnswer:
        checkpoint = CheckpointView(path="/c/10", step=10, size=5, created_at=NOW, best=True)
        return PathAnswer(dir=self._find(job).dir, project="/p", checkpoints=(checkpoint,))

    async def logs(self, job: int, which: LogFilter) -> AsyncGenerator[bytes, None]:
        self._find(job)
        if which.attempt == 99:
            raise ApiProblem(ErrorCode.NOT_FOUND, f"job {job} has no attempt 99")
        return self._log(job, which)

    async def _log(self, job: int, which: LogFilter) -> AsyncGenerator[bytes, None]:
        lines = self.output.setdefault(job, [])
        given = max(0, len(lines) - which.tail) if which.tail is not None else 0
        self.followers += 1
        try:
            while True:
                while given < len(lines):
                    given += 1
                    if lines[given - 1] == b"CRASH":
                        raise RuntimeError("the log is broken")
                    yield lines[given - 1]
                if not which.follow or self.all[job].state.ended:
                    return
                async with self.written:
                    await self.written.wait()
        finally:
            self.followers -= 1

    async def metrics(self, job: int, which: MetricsFilter) -> MetricsAnswer:
        self._find(job)
        names = which.names or ("loss", "accuracy")
        series = [
            Series(name=name, step=(1, 2), time=(1.0, 2.0), value=(0.5, "NaN"), attempt=(1, 1))
            for name in names
        ]
        return MetricsAnswer(job=job, series=tuple(series))

    async def points(self, job: int, which: PointsFilter) -> tuple[Series, tuple[int, int] | None]:
        """Three, of which the second is given with the first where it fits."""
        self._find(job)
        first = which.after[1] + 1 if which.after is not None else 0
        numbers = range(first, min(3, first + which.limit))
        series = Series(
            name=which.name, step=tuple(map(float, numbers)), time=(1.0,) * len(numbers),
            value=(0.5,) * len(numbers), attempt=(1,) * len(numbers),
        )  # fmt: skip
        return series, (1, numbers[-1]) if len(numbers) == which.limit else None

    async def events(self, after: int, job: int | None, limit: int) -> EventList:
        await asyncio.sleep(0)
        newer = [event for event in self.history[after:] if job in (None, event.job)]
        page = tuple(newer[:limit])
        return EventList(events=page, next=page[-1].id if len(newer) > limit else None)

    async def missing(self, hashes: Sequence[str]) -> tuple[str, ...]:
        return tuple(sha256 for sha256 in hashes if sha256 not in self.contents)

    async def put_file(self, sha256: str, chunks: AsyncIterator[bytes]) -> None:
        if sha256 in self.contents:
            return
        data = b"".join([chunk async for chunk in chunks])
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ApiProblem(ErrorCode.INVALID_REQUEST, "the content does not have this hash")
        self.contents[sha256] = data

    async def gpus(self, history: float | None = None) -> GpuList:
        return GpuList(gpus=(self.gpu(history),))

    def gpu(self, history: float | None = None) -> GpuView:
        past = GpuHistory(every=1.0, utilisation=(1,), memory=(2,), temperature=(3,), power=(None,))
        return GpuView(
            uuid=UUID, index=0, name='Made "up"', pci=None, memory_total=100, memory_used=10,
            utilisation=50, temperature=40, power=None, power_limit=None, processes=(),
            state="drained" if self.drained else "free", reason=self.drained, job=None, simulated=True,
            history=past if history else None,
        )  # fmt: skip

    async def drain(self, uuid: str, reason: str | None) -> GpuView:
        self._check_gpu(uuid)
        self.drained = reason or "drained"
        return self.gpu()

    async def undrain(self, uuid: str) -> GpuView:
        self._check_gpu(uuid)
        self.drained = None
        return self.gpu()

    def _check_gpu(self, uuid: str) -> None:
        if uuid != UUID:
            raise ApiProblem(ErrorCode.NOT_FOUND, f"no such GPU: {uuid}")

    async def status(self) -> StatusAnswer:
        return self.memory.status()

    async def figures(self) -> Figures:
        counted = {"job_failed": 2, "job_retried": 0}
        return Figures(
            waiting={"resources": 3}, longest_wait=7.5, events=counted, starts=2, waited=9.0, memory=5
        )

    async def report(self, since: float) -> ReportAnswer:
        self.reported_since = since
        sums = dict.fromkeys(
            (
                "gpu_seconds",
                "busy_seconds",
                "idle_seconds",
                "unmeasured_seconds",
                "free_seconds",
                "lost_seconds",
                "won_seconds",
            ),
            0.0,
        )
        when = datetime.datetime.fromtimestamp(since, datetime.UTC)
        return ReportAnswer(since=when, until=NOW, users=(), projects=(), jobs=(), **sums)

    async def disk(self) -> DiskAnswer:
        entries = [
            DiskEntry(job=job.id, name=job.name, state=job.state, project=1, checkpoints=2, logs=3, total=6)
            for job in self.all.values()
        ]
        return DiskAnswer(jobs=tuple(entries), files=1, environments=2, database=3, total=6)
