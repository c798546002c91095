"""How a job is stopped and how it ends, with what that means for jobs that wait for it."""

from __future__ import annotations

import msgspec

from trainforge.states import EndReason, JobState
from trainforged.core import messages as m
from trainforged.core.lifecycle import Trigger, move
from trainforged.core.state import Draft

replace = msgspec.structs.replace


def stop(draft: Draft, job: m.Job, time: float, why: EndReason, grace: float) -> None:
    draft.put(replace(job, state=move(job.state, Trigger.STOP), stopping_for=why))
    draft.order(m.StopAttempt(job=job.id, attempt=job.attempt, grace=grace))
    draft.note(time, "stop_ordered", f"asked to stop: {why.replace('_', ' ')}", job.id, grace=grace)


def end(
    draft: Draft,
    job: m.Job,
    time: float,
    trigger: Trigger,
    reason: EndReason,
    message: str,
    exit_code: int | None = None,
    ended_at: float | None = None,
) -> None:
    """`time` is when it was learnt, `ended_at` when it was so, if that is known to be earlier."""
    ended = replace(
        job,
        state=move(job.state, trigger),
        reason=None if reason is EndReason.SUCCEEDED else str(reason),
        ended_at=time if ended_at is None else min(time, ended_at),
        evidence=None if reason is EndReason.SUCCEEDED else message,
        exit_code=exit_code,
        not_before=None,
        passed_since=None,
    )
    draft.put(ended)
    draft.note(time, f"job_{ended.state}", message, job.id, reason=str(reason), exit_code=exit_code)
    draft.reschedule = True
    if ended.state is not JobState.SUCCEEDED:
        _fail_dependents(draft, ended, time)


def _fail_dependents(draft: Draft, ended: m.Job, time: float) -> None:
    for job_id in sorted(draft.base.dependents.get(ended.id, ())):
        job = draft.job(job_id)
        if job is not None and ended.id in job.schedule.after and job.state in _BEFORE_START:
            message = f"job {ended.id}, which it waited for, {ended.state}"
            end(draft, job, time, Trigger.FAIL, EndReason.DEPENDENCY, message)


_BEFORE_START = frozenset({JobState.QUEUED, JobState.HELD})
