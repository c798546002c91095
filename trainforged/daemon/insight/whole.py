"""`web.insight.Insight`: what is known of jobs, gathered off the loop and put together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from trainforge.api import FileEntry, JobView
from trainforge.api.page import (
    Checkpoints,
    ComparedMetric,
    Comparison,
    Differences,
    FoundLine,
    FoundLines,
    GpusHistory,
    GpusTimeline,
    Incident,
    JobHistory,
    SavedCheckpoint,
    SpecAnswer,
)
from trainforge.in_job.manifests import find_checkpoints
from trainforged.daemon.answering.refusing import looked_up
from trainforged.daemon.answering.views import moment
from trainforged.daemon.insight import best, histories, incidents, searching, settings
from trainforged.daemon.watching.use import HistoryWatch
from trainforged.execution.errors import FilesError
from trainforged.execution.files.store import Files
from trainforged.storage.jobs.store import JobStore, Submission
from trainforged.storage.metrics.history import DAY, KEPT
from trainforged.storage.metrics.store import MetricStore
from trainforged.web.errors import no_such_attempt, no_such_job
from trainforged.web.insight import LineFilter

NEWEST_EVENTS = 200
LATELY = 600.0  # seconds

_manifest = msgspec.json.Decoder(tuple[FileEntry, ...])


class DaemonInsight:
    """`job` gives a job whole, None where there is none; `devices` the UUIDs of the GPUs there are now."""

    def __init__(
        self,
        store: JobStore,
        metrics: MetricStore,
        files: Files,
        job: Callable[[int], Awaitable[JobView | None]],
        jobs_dir: Path,
        watch: HistoryWatch,
        devices: Callable[[], Iterable[str]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._watch = watch
        self._devices = devices
        self._clock = clock
        self._store = store
        self._metrics = metrics
        self._files = files
        self._job = job
        self._jobs_dir = jobs_dir
        self._searching = asyncio.Semaphore(1)  # threads that search on for clients who left stop nobody else

    # ---- one job

    async def incident(self, job: int) -> Incident:
        view = await self._whole(job)
        metrics = await looked_up(self._metrics.latest, job)
        stacks = await looked_up(incidents.kept_stacks, self._attempt_dir(job, view.attempt))
        events = await looked_up(self._store.newest_events, job, NEWEST_EVENTS)
        return incidents.incident(view, metrics, stacks, events)

    async def spec(self, job: int) -> SpecAnswer:
        submission = await self._submission(job)
        return SpecAnswer(
            spec=msgspec.to_builtins(submission.spec),
            git=submission.git,
            workdir=submission.workdir,
            project=str(self._jobs_dir / str(job) / "project"),
            root=submission.root,
        )

    async def checkpoints(self, job: int) -> Checkpoints:
        await self._submission(job)
        folder = self._jobs_dir / str(job) / "checkpoints"
        found = await looked_up(find_checkpoints, str(folder))
        newest_best = next((point for point in reversed(found) if point.best), None)
        return Checkpoints(
            checkpoints=tuple(
                SavedCheckpoint(
                    name=Path(point.path).name,
                    step=point.step,
                    saved_at=moment(point.time),
                    size=point.size,
                    best=point is newest_best,
                    whole=point.problem is None,
                )
                for point in found
            )
        )

    async def search(self, job: int, which: LineFilter) -> FoundLines:
        attempts = self._attempts(await self._whole(job), which)
        lines: list[FoundLine] = []
        for attempt in attempts:
            most = which.limit + 1 - len(lines)
            folder = self._attempt_dir(job, attempt)
            async with self._searching:
                lines += await looked_up(searching.search, folder, attempt, which, most)
            if len(lines) > which.limit:
                break
        return FoundLines(lines=tuple(lines[: which.limit]), more=len(lines) > which.limit)

    # ---- over time

    async def gpus_history(self, since: float | None, until: float | None, points: int) -> GpusHistory:
        since, until, now = await self._period(since, until, LATELY)
        history = self._metrics.history
        grids = await looked_up(history.gpu_grids, since, until, points, now)
        gpus = await looked_up(history.gpus)
        return histories.gpus_history(gpus, grids, since, until)

    async def gpus_timeline(self, since: float | None, until: float | None) -> GpusTimeline:
        since, until, _ = await self._period(since, until, DAY)
        history = self._metrics.history
        spans = await looked_up(history.spans, since, until)
        seen = await looked_up(history.first_seen)
        gpus = await looked_up(history.gpus)
        return histories.timeline(gpus, spans, set(self._devices()), seen, since, until)

    async def job_history(self, job: int, since: float | None, points: int) -> JobHistory:
        await self._submission(job)
        attempts = await looked_up(self._store.attempts, job)
        now = self._clock()
        begin = attempts[0].granted_at if attempts else now
        running = any(attempt.ended_at is None for attempt in attempts)
        end = now if running or not attempts else max(a.ended_at or 0.0 for a in attempts)
        since, until, now = await self._period(begin if since is None else since, max(end, begin), 0.0)
        history = self._metrics.history
        used = await looked_up(history.job_grid, job, since, until, points, now)
        grids = await looked_up(history.gpu_grids, since, until, points, now)
        gpus = await looked_up(history.gpus)
        return histories.job_history(used, gpus, grids, attempts, until)

    async def _period(
        self, since: float | None, until: float | None, default: float
    ) -> tuple[float, float, float]:
        """From when to when, and now; all that came up to now can be read then."""
        await self._watch.flush()
        now = self._clock()
        end = min(until, now) if until is not None else now
        begin = since if since is not None else end - default
        begin = max(min(begin, end), now - KEPT)
        return begin, max(begin, end), now

    # ---- several

    async def differences(self, job: int, other: int | None) -> Differences:
        here = await self._described(job)
        with_ = other if other is not None else await self._before(job)
        if with_ is None:
            return Differences(with_=None, rows=())
        return Differences(with_=with_, rows=settings.differences(here, await self._described(with_)))

    async def compare(self, jobs: Sequence[int], metrics: bool) -> Comparison:
        views = [await self._whole(job) for job in jobs]
        rows = {job: settings.flat((await self._submission(job)).spec) for job in jobs}
        found_metrics: dict[str, ComparedMetric] = {}
        for job in jobs if metrics else ():
            for series in await looked_up(self._metrics.query, job, points=1):
                found = best.last_and_best(series)
                if found is not None:
                    row = found_metrics.setdefault(series.name, ComparedMetric(name=series.name, values={}))
                    row.values[str(job)] = found
        return Comparison(
            jobs=tuple(views), settings=settings.compared(rows), metrics=tuple(found_metrics.values())
        )

    # ---- what they need

    async def _whole(self, job: int) -> JobView:
        view = await self._job(job)
        if view is None:
            raise no_such_job(job)
        return view

    async def _submission(self, job: int) -> Submission:
        found = await looked_up(self._store.submission, job)
        if found is None:
            raise no_such_job(job)
        return found

    async def _described(self, job: int) -> dict[str, str]:
        submission = await self._submission(job)
        files = await looked_up(self._frozen, submission)
        return settings.described(submission, files)

    def _frozen(self, submission: Submission) -> tuple[FileEntry, ...]:
        """The files that were frozen; none where their list is gone."""
        if submission.manifest is None:
            return ()
        try:
            return _manifest.decode(self._files.read(submission.manifest))
        except FilesError:
            return ()

    async def _before(self, job: int) -> int | None:
        known = await looked_up(self._store.job, job)
        if known is None:
            raise no_such_job(job)
        page = await looked_up(self._store.page, user=known.user, name=known.name, limit=1, cursor=job)
        return page.rows[0].job.id if page.rows else None

    def _attempts(self, job: JobView, which: LineFilter) -> Sequence[int]:
        if which.attempt == "all":
            return range(1, job.attempt + 1)
        if which.attempt == "latest":
            return (job.attempt,) if job.attempt else ()
        if not 1 <= which.attempt <= job.attempt:
            raise no_such_attempt(job.id, which.attempt, job.attempt)
        return (which.attempt,)

    def _attempt_dir(self, job: int, attempt: int) -> Path:
        return self._jobs_dir / str(job) / "attempts" / str(attempt)
