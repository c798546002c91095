"""What a job waits for of others: that they succeed, that they fail, or only that they end.

Pure: `outcome` tells how a job ended, None while it has not. Nothing here knows the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from trainforge.spec import Schedule
from trainforge.states import JobState

Outcome = Callable[[int], JobState | None]


def unmet(schedule: Schedule, outcome: Outcome) -> Iterator[tuple[str, int]]:
    """Each (key of `schedule`, job) that has not come true: yet, or for ever."""
    for job in schedule.after:
        if outcome(job) is not JobState.SUCCEEDED:
            yield "after", job
    for job in schedule.afterany:
        if outcome(job) is None:
            yield "afterany", job
    for job in schedule.afternotok:
        if outcome(job) in (None, JobState.SUCCEEDED):
            yield "afternotok", job


def waits(schedule: Schedule, outcome: Outcome) -> bool:
    """Whether any is left. Asked of each of 100,000 jobs, most of which wait for none."""
    if not (schedule.after or schedule.afterany or schedule.afternotok):
        return False
    return next(unmet(schedule, outcome), None) is not None


def in_vain(schedule: Schedule, outcome: Outcome) -> tuple[str, int, JobState] | None:
    """The first (key, job, how it ended) that can come true no more."""
    for key, job in unmet(schedule, outcome):
        ended = outcome(job)
        if ended is not None:
            return key, job, ended
    return None


def how(ended: JobState) -> str:
    """As a predicate of the job."""
    return "was cancelled" if ended is JobState.CANCELLED else str(ended)
