"""The report: what GPUs were held for since a moment, by user, project and job. Pure.

Lost is what a crash threw away: from the last checkpoint, or else the start, to the end. Won is what a retry
did not have to do again since it resumed: all that the attempts before it had saved.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby

from trainforge.api.report import Group, JobAccount, ReportAnswer
from trainforge.states import EndReason
from trainforged.daemon.answering.views import moment
from trainforged.storage.accounts import HOUR, Account, Slice

MOST_JOBS = 1000
NO_CRASH = frozenset(
    {EndReason.SUCCEEDED, EndReason.CANCELLED, EndReason.HELD, EndReason.TIME_LIMIT, EndReason.DEPENDENCY}
)


def summary(
    accounts: Sequence[Account], slices: Iterable[Slice], since: float, now: float, waste: dict[int, str]
) -> ReportAnswer:
    """`accounts` are in order of job and attempt; `waste` says of live jobs what they waste."""
    by_job: dict[int, list[Slice]] = defaultdict(list)
    for one in slices:
        by_job[one.job].append(one)
    available = sum(one.held for one in by_job.pop(0, []))
    jobs = [
        _job(list(attempts), by_job[job], since, waste.get(job))
        for job, attempts in groupby(accounts, lambda account: account.job)
        if by_job.get(job)
    ]
    jobs.sort(key=lambda job: -job.gpu_seconds)
    return ReportAnswer(
        since=moment(since // HOUR * HOUR),
        until=moment(now),
        gpu_seconds=sum(job.gpu_seconds for job in jobs),
        busy_seconds=sum(job.busy_seconds for job in jobs),
        idle_seconds=sum(job.idle_seconds for job in jobs),
        unmeasured_seconds=sum(job.unmeasured_seconds for job in jobs),
        free_seconds=max(0.0, available - sum(job.gpu_seconds for job in jobs)),
        lost_seconds=sum(job.lost_seconds for job in jobs),
        won_seconds=sum(job.won_seconds for job in jobs),
        users=_groups(jobs, [job.user for job in jobs]),
        projects=_groups(jobs, [job.name for job in jobs]),
        jobs=tuple(jobs[:MOST_JOBS]),
    )


def _job(attempts: Sequence[Account], slices: Sequence[Slice], since: float, waste: str | None) -> JobAccount:
    held, measured = sum(s.held for s in slices), sum(s.measured for s in slices)
    busy, seconds = sum(s.busy for s in slices), sum(s.seconds for s in slices)
    newest = attempts[-1]
    lost, won = _lost_and_won(attempts, since)
    return JobAccount(
        job=newest.job,
        name=newest.name,
        user=newest.user,
        gpus=newest.gpus,
        attempts=len(attempts),
        running=newest.ended_at is None,
        gpu_seconds=held,
        busy_seconds=busy,
        idle_seconds=sum(s.idle for s in slices),
        unmeasured_seconds=max(0.0, held - measured),
        mean_utilization=100 * busy / measured if measured else None,
        gpu_memory=newest.gpu_memory,
        mean_gpu_memory=newest.gpus * sum(s.memory for s in slices) / measured if measured else None,
        peak_gpu_memory=max(s.memory_peak for s in slices),
        cpu=newest.cpu,
        mean_cpu=sum(s.cores for s in slices) / seconds if seconds else None,
        memory=newest.memory,
        peak_memory=max(s.host_peak for s in slices),
        lost_seconds=lost,
        won_seconds=won,
        waste=waste,
    )


def _lost_and_won(attempts: Sequence[Account], since: float) -> tuple[float, float]:
    """In GPU-seconds, of what happened after `since`."""
    lost = won = kept = 0.0
    for account in attempts:
        if account.resumed and account.granted_at >= since:
            won += kept
        saved = max(account.granted_at, account.checkpoint_at or 0.0)
        kept += account.gpus * (saved - account.granted_at)
        crashed = account.reason is not None and account.reason not in NO_CRASH
        if crashed and account.ended_at is not None and account.ended_at >= since:
            lost += account.gpus * max(0.0, account.ended_at - saved)
    return lost, won


def _groups(jobs: Sequence[JobAccount], names: Sequence[str]) -> tuple[Group, ...]:
    """Sums by name, the largest first."""
    sums: dict[str, list[JobAccount]] = defaultdict(list)
    for job, name in zip(jobs, names, strict=True):
        sums[name].append(job)
    groups = [
        Group(
            name=name,
            jobs=len(of),
            gpu_seconds=sum(job.gpu_seconds for job in of),
            busy_seconds=sum(job.busy_seconds for job in of),
            idle_seconds=sum(job.idle_seconds for job in of),
            unmeasured_seconds=sum(job.unmeasured_seconds for job in of),
            lost_seconds=sum(job.lost_seconds for job in of),
            won_seconds=sum(job.won_seconds for job in of),
        )
        for name, of in sums.items()
    ]
    return tuple(sorted(groups, key=lambda group: -group.gpu_seconds))
