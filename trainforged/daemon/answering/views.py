"""Jobs as the API shows them: what the core remembers, put together with what else is known of them."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from trainforge.api import AttemptView, Git, JobView, Progress, RankView, ResourceView, Usage, Waste
from trainforged.core import explain, scheduler
from trainforged.core import messages as m
from trainforged.core.causes import account, first_failure, tail
from trainforged.core.state import State
from trainforged.storage.jobs.store import Submission


def moment(seconds: float) -> datetime.datetime:
    """A time of the core as the API writes it."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _moment_or_none(seconds: float | None) -> datetime.datetime | None:
    return None if seconds is None else moment(seconds)


class Views:
    """Makes `JobView`s. `progress` and `usage` give what is known of a running job now, or None; they
    are called on the event loop, so they must not read the disk; so is `waste`."""

    def __init__(
        self,
        state: State,
        jobs_dir: Path,
        *,
        progress: Callable[[int], Progress | None],
        usage: Callable[[int], Usage | None],
        waste: Callable[[int], Waste | None] = lambda job: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._jobs_dir = jobs_dir
        self._progress = progress
        self._usage = usage
        self._waste = waste
        self._clock = clock

    def whole(
        self,
        job: m.Job,
        submission: Submission,
        attempts: Sequence[m.Attempt],
        progress: Progress | None = None,
    ) -> JobView:
        """The job with its attempts and its spec."""
        project, environment = submission.spec.project, submission.spec.environment
        view = self.job(
            job,
            git=submission.git,
            description=project.description,
            base_image=environment.base_image,
            progress=progress,
        )
        over = attempts[-1].gpus if attempts and job.state.ended else ()
        gpus = view.gpus or over
        return replace(
            view,
            gpus=gpus,
            gpu_indices=self._indices(gpus),
            attempts=tuple(map(_attempt, attempts)),
            spec=msgspec.to_builtins(submission.spec),
            root=submission.root if submission.workdir is None else None,
            workdir=submission.workdir,
        )

    def job(
        self,
        job: m.Job,
        *,
        git: Git | None = None,
        description: str = "",
        base_image: str | None = None,
        progress: Progress | None = None,
    ) -> JobView:
        """The job as it stands in a list. `progress` is the last that was stored of it."""
        state, now = self._state, self._clock()
        lease = state.leases.get(job.id) if job.state.live else None
        gpus = lease.gpus if lease is not None else ()
        return JobView(
            id=job.id,
            name=job.name,
            user=job.user,
            state=job.state,
            reason=explain.reason(state, job, now),
            priority=job.schedule.priority,
            submitted_at=moment(job.submitted_at),
            started_at=_moment_or_none(job.started_at),
            ended_at=_moment_or_none(job.ended_at),
            resources=self._resources(job),
            gpus=gpus,
            gpu_indices=self._indices(gpus),
            attempt=job.attempt,
            retries=job.retries,
            exit_code=job.exit_code,
            git=git,
            progress=(self._progress(job.id) if job.state.live else None) or _without_eta(progress),
            usage=self._usage(job.id) if job.state.live else None,
            why=explain.why(state, job, now, self._left),
            dir=str(self._jobs_dir / str(job.id)),
            elapsed=job.spent + (now - job.attempt_started_at if job.attempt_started_at else 0.0),
            time_limit=job.schedule.time_limit,
            waste=self._waste(job.id) if job.state.live else None,
            label=job.label,
            description=description,
            base_image=base_image,
        )

    def _indices(self, gpus: Sequence[str]) -> tuple[int, ...]:
        return tuple(self._state.devices[uuid].index for uuid in gpus if uuid in self._state.devices)

    def _resources(self, job: m.Job) -> ResourceView:
        least, _ = job.resources.gpu_range
        wanted = scheduler.needs(job.resources, least, self._state.machine, len(self._state.devices))
        return ResourceView(gpu=job.resources.gpu, cpu=wanted.cpu, memory=job.resources.memory)

    def _left(self, job_id: int) -> float | None:
        progress = self._progress(job_id)
        return progress.eta if progress is not None else None


def _without_eta(progress: Progress | None) -> Progress | None:
    """What is stored is of an attempt that is over: how long the next one takes is not known yet."""
    return None if progress is None else replace(progress, eta=None)


def _attempt(attempt: m.Attempt) -> AttemptView:
    end = attempt.end
    failed = first_failure(end) if end is not None else None
    return AttemptView(
        number=attempt.number,
        gpus=attempt.gpus,
        started_at=moment(attempt.started_at if attempt.started_at is not None else attempt.granted_at),
        ended_at=_moment_or_none(attempt.ended_at),
        reason=attempt.reason,
        exit_code=end.exit_code if end is not None else None,
        signal=end.signal if end is not None else None,
        message=account(end, attempt.gpus, attempt.reason) if end is not None else None,
        failed_rank=failed.rank if failed is not None else None,
        tail=tail(end) if end is not None else None,
        ranks=tuple(map(_rank, end.ranks)) if end is not None else (),
        resumed_from=attempt.resumed_from,
        followed=attempt.followed,
    )


def _rank(rank: m.RankEnd) -> RankView:
    return RankView(
        rank=rank.rank,
        pid=rank.pid,
        exit_code=rank.exit_code,
        signal=rank.signal,
        error=rank.error,
        traceback=rank.traceback,
    )
