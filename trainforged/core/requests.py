"""What people ask for: submit, cancel, hold, release, update, remove."""

from __future__ import annotations

import msgspec

from trainforge.states import EndReason, JobState
from trainforged.core import messages as m
from trainforged.core.admission import refusal
from trainforged.core.endings import end, stop
from trainforged.core.lifecycle import Trigger, move
from trainforged.core.state import Draft

replace = msgspec.structs.replace


def submitted(draft: Draft, event: m.Submitted) -> m.Reply:
    for new in event.jobs:
        problem = refusal(draft, new.resources, new.schedule)
        if problem is not None:
            return problem
    ids = [_add(draft, event.time, new) for new in event.jobs]
    draft.reschedule = True
    return m.Accepted(jobs=tuple(ids))


def _add(draft: Draft, time: float, new: m.NewJob) -> int:
    state = JobState.HELD if new.hold else JobState.QUEUED
    job = m.Job(
        id=draft.next_id,
        name=new.name,
        user=new.user,
        state=state,
        submitted_at=time,
        script=new.script,
        label=new.label,
        resources=new.resources,
        schedule=new.schedule,
        recovery=new.recovery,
    )
    draft.add(job, new.key)
    draft.note(time, "job_submitted", f"{new.name} was submitted by {new.user}", job.id)
    return job.id


def cancel_requested(draft: Draft, event: m.CancelRequested) -> m.Reply:
    job = draft.job(event.job)
    if job is None or job.state.ended:
        return _no_such(draft, event.job)
    if job.state.live:
        stop(draft, job, event.time, EndReason.CANCELLED, 0.0 if event.now else job.recovery.grace)
    else:
        end(draft, job, event.time, Trigger.CANCEL, EndReason.CANCELLED, "cancelled")
    return m.Accepted(jobs=(job.id,))


def hold_requested(draft: Draft, event: m.HoldRequested) -> m.Reply:
    job = draft.job(event.job)
    if job is None or job.state.ended:
        return _no_such(draft, event.job)
    if job.stopping_for is not None:
        return m.Refused(code="conflict", message=f"job {job.id} is already stopping")
    if job.state.live:
        stop(draft, job, event.time, EndReason.HELD, job.recovery.grace)
        return m.Accepted(jobs=(job.id,))
    if job.state is JobState.HELD:
        return m.Refused(code="conflict", message=f"job {job.id} is held already (tfctl release {job.id})")
    held = move(job.state, Trigger.HOLD)
    draft.put(replace(job, state=held, reason=None, not_before=None, passed_since=None))
    draft.note(event.time, "job_held", "held", job.id)
    draft.reschedule = True
    return m.Accepted(jobs=(job.id,))


def release_requested(draft: Draft, event: m.ReleaseRequested) -> m.Reply:
    job = draft.job(event.job)
    if job is None or job.state.ended:
        return _no_such(draft, event.job)
    if job.state is not JobState.HELD:
        return m.Refused(code="conflict", message=f"job {job.id} is {job.state}, not held")
    draft.put(replace(job, state=move(job.state, Trigger.RELEASE), reason=None))
    draft.note(event.time, "job_released", "released", job.id)
    draft.reschedule = True
    return m.Accepted(jobs=(job.id,))


def update_requested(draft: Draft, event: m.UpdateRequested) -> m.Reply:
    job = draft.job(event.job)
    if job is None:
        return _no_such(draft, event.job)
    if job.state.ended:
        return m.Refused(code="conflict", message=f"job {job.id} has {job.state}; retry makes a new one")
    if job.state.live and event.resources not in (None, job.resources):
        return m.Refused(
            code="conflict",
            message=f"job {job.id} is {job.state}; its resources can change only while it waits",
            path="resources",
        )
    resources, schedule = event.resources or job.resources, event.schedule or job.schedule
    problem = refusal(draft, resources, schedule, already=job)
    if problem is not None:
        return problem
    draft.put(
        replace(
            job,
            label=job.label if event.label is None else event.label,
            resources=resources,
            schedule=schedule,
            recovery=event.recovery or job.recovery,
            passed_since=None,
        )
    )
    draft.resubmit(job.id, event.key)
    draft.note(event.time, "job_updated", "its settings were changed", job.id)
    draft.reschedule = True
    return m.Accepted(jobs=(job.id,))


def remove_requested(draft: Draft, event: m.RemoveRequested) -> m.Reply:
    if draft.outcome(event.job) is None:
        job = draft.job(event.job)
        if job is None:
            return _no_such(draft, event.job)
        return m.Refused(code="conflict", message=f"job {job.id} is {job.state}; cancel it first")
    if draft.lease(event.job) is not None:
        return m.Refused(code="conflict", message=f"job {event.job} is still being cleaned up")
    waiting = draft.waiting_for(event.job)
    if waiting:
        return m.Refused(code="conflict", message=f"job {min(waiting)} waits for job {event.job}")
    draft.remove(event.job)
    draft.note(event.time, "job_removed", "removed with its files", event.job)
    draft.order(m.RemoveFiles(job=event.job, attempt=0))
    return m.Accepted(jobs=(event.job,))


def _no_such(draft: Draft, job_id: int) -> m.Refused:
    outcome = draft.outcome(job_id)
    if outcome is None:
        return m.Refused(code="no_such_job", message=f"there is no job {job_id}")
    return m.Refused(code="conflict", message=f"job {job_id} has ended: {outcome}")
