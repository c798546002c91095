"""How a job is stopped and how it ends, with what that means for jobs that wait for it."""

from __future__ import annotations

import msgspec

from trainforge.states import EndReason, JobState
from trainforged.core import dependencies
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
        room=None,
        room_by=None,
    )
    draft.put(ended)
    draft.note(time, f"job_{ended.state}", message, job.id, reason=str(reason), exit_code=exit_code)
    draft.reschedule = True


def end_dependents(draft: Draft, time: float) -> None:
    """End the jobs that wait in vain: for one which has ended, and not as it was to. Once all events of a
    batch are in: whoever waits may have come, or begun to, in the same batch before or after that end."""
    waiting = sorted(draft.touched_or_waiting())
    for job_id in waiting:  # which grows as we go: who waited for those waits in vain too
        job = draft.job(job_id)
        if job is None or job.state not in _WAITING:
            continue
        found = dependencies.in_vain(job.schedule, draft.outcome)
        if found is not None:
            key, other, ended = found
            needless = key == "afternotok"  # it was to run if the other failed: that it did not is no failure
            what = "whose failure it waited for" if needless else "which it waited for"
            message = f"job {other}, {what}, {dependencies.how(ended)}"
            trigger = Trigger.CANCEL if needless else Trigger.FAIL
            end(draft, job, time, trigger, EndReason.DEPENDENCY, message)
            waiting += sorted(draft.waiting_for(job_id))


_WAITING = frozenset({JobState.QUEUED, JobState.HELD, JobState.BACKOFF})
