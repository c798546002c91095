"""What jobs cost on disk, and how it is given back: remove, prune, retention, collection.

A job's rows go first, by the core's decision; then its folder; contents that no submission names
any more are collected once a day.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from trainforge.api import (
    CheckpointView,
    DiskAnswer,
    DiskEntry,
    FileEntry,
    PathAnswer,
    PruneAnswer,
    PruneRequest,
)
from trainforge.in_job.manifests import find_checkpoints
from trainforge.states import JobState
from trainforged.config import Retention
from trainforged.core import messages as m
from trainforged.daemon.answering.submissions import ids
from trainforged.daemon.answering.views import moment
from trainforged.daemon.disks.reserve import Reserve
from trainforged.daemon.engine import Engine
from trainforged.execution.environments.isolated import Environments
from trainforged.execution.errors import FilesError
from trainforged.execution.files import folders
from trainforged.execution.files.store import Files
from trainforged.storage.errors import StorageError, StorageFull
from trainforged.storage.following.records import RecordReader
from trainforged.storage.jobs.store import JobStore
from trainforged.storage.metrics.store import MetricStore
from trainforged.web.errors import ApiProblem

log = logging.getLogger(__name__)

TIDY_EVERY = 60.0  # seconds; the log of what was committed is folded in before it grows long
RETENTION_EVERY = 3600.0
COLLECTION_EVERY = 86400.0
ENVIRONMENTS_UNUSED = 30 * 86400.0  # seconds after which an isolated environment is removed
AT_ONCE = 1000  # jobs removed in one round


class Housekeeping:
    """All methods belong to the event loop; walking and deleting is done off it."""

    def __init__(
        self,
        *,
        engine: Engine,
        store: JobStore,
        metrics: MetricStore,
        reader: RecordReader,
        files: Files,
        environments: Environments,
        state_dir: Path,
        reserve: Reserve,
        next_id: int,
        retention: Callable[[], Retention],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._store = store
        self._metrics = metrics
        self._reader = reader
        self._files = files
        self._environments = environments
        self._state_dir = state_dir
        self._reserve = reserve
        self._next_id = next_id
        self._retention = retention
        self._clock = clock
        self._removing: set[asyncio.Task[None]] = set()

    def job_dir(self, job: int) -> Path:
        return self._state_dir / "jobs" / str(job)

    # ---- removing

    async def remove(self, job: int, keep: str | None = None) -> None:
        """Forget an ended job and delete its files, but for its best checkpoint where asked to."""
        ended = job not in self._engine.state.jobs  # nothing is moved under a job that may still run
        kept = await asyncio.to_thread(self._rescue_best, job) if keep == "best" and ended else None
        try:
            await self._forget(job)
        except (ApiProblem, StorageError):
            if kept is not None:
                await asyncio.to_thread(self._put_back, job, kept)
            raise

    async def _forget(self, job: int) -> None:
        """Also on a full disk: this is how it comes to have room again."""
        event = m.RemoveRequested(time=self._clock(), job=job)
        while True:
            try:
                reply = await self._engine.ask(event)
            except StorageFull:
                if not await asyncio.to_thread(self._reserve.give_up):
                    raise
            else:
                ids(reply)
                return

    def delete_files(self, job: int) -> None:
        """Perform `RemoveFiles`: delete the job's folder and metrics, in the background."""
        task = asyncio.ensure_future(asyncio.to_thread(self._delete, job))
        self._removing.add(task)
        task.add_done_callback(self._removing.discard)

    def _delete(self, job: int) -> None:
        try:
            folders.remove(self.job_dir(job))
        except FileNotFoundError:
            pass
        except OSError as error:
            log.error("the folder of removed job %d stays: %s", job, error)
        try:
            self._reader.forget(job)
        except StorageError as error:
            log.error("metrics of removed job %d stay: %s", job, error)

    def _rescue_best(self, job: int) -> Path | None:
        """Move the best checkpoint out of the job's folder, to `kept/<job>/`."""
        best = [point for point in find_checkpoints(str(self.job_dir(job) / "checkpoints")) if point.best]
        if not best:
            return None
        place = self._state_dir / "kept" / str(job)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        goal = place / Path(best[-1].path).name
        os.rename(best[-1].path, goal)
        return goal

    def _put_back(self, job: int, kept: Path) -> None:
        os.rename(kept, self.job_dir(job) / "checkpoints" / kept.name)

    async def prune(self, request: PruneRequest) -> PruneAnswer:
        """Remove the jobs that ended longer ago than asked."""
        before = self._clock() - request.older_than
        found = await asyncio.to_thread(self._store.ended_before, before, AT_ONCE)
        removed, freed = [], 0
        for job in found:
            size = await asyncio.to_thread(folders.size, self.job_dir(job.id))
            if not request.dry_run:
                try:
                    await self.remove(job.id)
                except ApiProblem as problem:
                    log.info("job %d is not pruned: %s", job.id, problem)
                    continue
            removed.append(job.id)
            freed += size
        return PruneAnswer(jobs=tuple(removed), freed=freed)

    # ---- in the background

    async def run(self) -> None:
        """Tidy storage, apply retention, collect contents, each in its own time, until cancelled."""
        await asyncio.to_thread(self._delete_leftovers)
        chores = (
            (TIDY_EVERY, self._tidy),
            (RETENTION_EVERY, self._retain),
            (COLLECTION_EVERY, self._collect),
        )
        due = dict.fromkeys(chores, time.monotonic())
        while True:
            for chore in chores:
                if time.monotonic() >= due[chore]:
                    due[chore] = time.monotonic() + chore[0]
                    try:
                        await chore[1]()
                    except (StorageError, OSError) as error:
                        log.error("housekeeping: %s", error)
            await asyncio.sleep(TIDY_EVERY)

    async def _tidy(self) -> None:
        await asyncio.to_thread(self._store.tidy)
        await asyncio.to_thread(self._metrics.tidy)

    async def _collect(self) -> None:
        await asyncio.to_thread(self.collect)
        if not self._engine.state.leases:  # else a long job may run with one of them
            await asyncio.to_thread(self._environments.collect, (), ENVIRONMENTS_UNUSED)

    async def _retain(self) -> None:
        retention = self._retention()
        if retention.age is not None:
            await self.prune(PruneRequest(older_than=float(retention.age)))
        if retention.size is not None:
            await self._shrink(int(retention.size))

    async def _shrink(self, limit: int) -> None:
        """Remove ended jobs, the longest ended first, until the rest fits."""
        ended = await asyncio.to_thread(self._store.ended_before, self._clock(), AT_ONCE)
        sizes = {job.id: await asyncio.to_thread(folders.size, self.job_dir(job.id)) for job in ended}
        total = sum(sizes.values())
        for job in ended:
            if total <= limit:
                return
            try:
                await self.remove(job.id)
            except ApiProblem as problem:
                log.info("job %d is kept: %s", job.id, problem)
                continue
            total -= sizes[job.id]

    def collect(self) -> int:
        """Delete contents that no stored submission needs; the bytes that came free."""
        named = self._store.contents()
        in_use = set(named)
        for sha256 in named:
            in_use.update(self._named_in(sha256))
        return self._files.collect(in_use)

    def _named_in(self, sha256: str) -> set[str]:
        """Contents that a manifest names; none for a captured shell."""
        try:
            entries = msgspec.json.decode(self._files.read(sha256), type=tuple[FileEntry, ...])
        except (msgspec.ValidationError, FilesError):
            return set()
        return {entry.sha256 for entry in entries if entry.sha256 is not None}

    def _delete_leftovers(self) -> None:
        """Folders of jobs that were removed just before the daemon stopped.

        Only of numbers that this database has given out: others are of jobs that it has lost, or that
        were submitted after it was backed up.
        """
        state = self._engine.state
        for job in job_folders(self._state_dir / "jobs"):
            if job < self._next_id and job not in state.jobs and job not in state.outcomes:
                self._delete(job)

    # ---- looking

    async def path(self, job: int) -> PathAnswer:
        folder = self.job_dir(job)
        found = await asyncio.to_thread(find_checkpoints, str(folder / "checkpoints"))
        points = tuple(
            CheckpointView(
                path=str(point.path),
                step=point.step,
                size=point.size,
                created_at=moment(point.time),
                best=point.best,
                problem=point.problem,
            )
            for point in found
        )
        return PathAnswer(dir=str(folder), project=str(folder / "project"), checkpoints=points)

    async def disk(self) -> DiskAnswer:
        return await asyncio.to_thread(self._disk)

    def _disk(self) -> DiskAnswer:
        entries = []
        for job, name, state in self._named():
            folder = self.job_dir(job)
            parts = [folders.size(folder / part) for part in ("project", "checkpoints", "attempts")]
            total = folders.size(folder)
            if total:
                entries.append(
                    DiskEntry(
                        job=job,
                        name=name,
                        state=state,
                        project=parts[0],
                        checkpoints=parts[1],
                        logs=parts[2],
                        total=total,
                    )
                )
        entries.sort(key=lambda entry: (-entry.total, entry.job))
        files = folders.size(self._state_dir / "files")
        environments = folders.size(self._state_dir / "environments")
        database = self._store.usage() + self._metrics.usage()
        total = sum(entry.total for entry in entries) + files + environments + database
        return DiskAnswer(
            jobs=tuple(entries), files=files, environments=environments, database=database, total=total
        )

    def _named(self) -> list[tuple[int, str, JobState]]:
        """Jobs that have a folder, with name and state."""
        known = [self._store.job(job) for job in job_folders(self._state_dir / "jobs")]
        return [(job.id, job.name, job.state) for job in known if job is not None]


def job_folders(jobs: Path) -> list[int]:
    """The numbers of the jobs that have one."""
    try:
        return sorted(int(entry.name) for entry in jobs.iterdir() if entry.name.isdecimal())
    except FileNotFoundError:
        return []
