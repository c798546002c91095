"""Time and turns: what the passing of time changes, and one scheduling pass over the queue."""

from __future__ import annotations

import msgspec

from trainforge.states import EndReason, JobState, WaitReason
from trainforged.core import dependencies, scheduler
from trainforged.core import messages as m
from trainforged.core.endings import stop
from trainforged.core.leases import attempt_record, start
from trainforged.core.lifecycle import Trigger, move
from trainforged.core.state import Draft, State

replace = msgspec.structs.replace


def time_passed(draft: Draft, event: m.TimePassed) -> m.Reply:
    now = event.time
    for job in draft.timed():
        if job.state is JobState.BACKOFF and (job.not_before or 0.0) <= now and not no_room(draft, job, now):
            draft.put(replace(job, state=move(job.state, Trigger.RETRY), not_before=None))
        elif job.state is JobState.RUNNING:
            limit = _time_limit(job)
            if limit is not None and limit <= now:
                stop(draft, job, now, EndReason.TIME_LIMIT, job.recovery.grace)
    draft.reschedule = True
    return m.Accepted()


def database_mended(draft: Draft, event: m.DatabaseMended) -> m.Reply:
    draft.note(event.time, "database_mended", event.message)
    return m.Accepted()


def clock_set(draft: Draft, event: m.ClockSet) -> m.Reply:
    """What was to last so many seconds still does: only times that people named stay as they are."""
    live = (draft.job(lease.job) for lease in draft.all_leases())
    jobs = {job.id: job for job in (*live, *draft.timed()) if job is not None}
    for job in jobs.values():
        draft.put(
            replace(
                job,
                not_before=_moved(job.not_before, event.by),
                attempt_started_at=_moved(job.attempt_started_at, event.by),
                passed_since=_moved(job.passed_since, event.by),
                room_by=_moved(job.room_by, event.by),
            )
        )
    way = "forward" if event.by > 0 else "back"
    draft.note(event.time, "clock_set", f"the machine's clock was set {way} by {abs(event.by):.0f} s")
    return time_passed(draft, m.TimePassed(time=event.time))


def _moved(moment: float | None, by: float) -> float | None:
    return moment + by if moment is not None else None


def room_changed(draft: Draft, event: m.RoomChanged) -> m.Reply:
    draft.machine = replace(draft.machine, room=event.room)
    words = "there is room on the disk again" if event.room else "the disk of the state folder is full"
    draft.note(event.time, "disk_free" if event.room else "disk_full", words)
    return time_passed(draft, m.TimePassed(time=event.time))


def room_found(draft: Draft, event: m.RoomFound) -> m.Reply:
    job = draft.job(event.job)
    if job is None or job.room is None:
        return m.Refused(code="conflict", message=f"job {event.job} does not wait for room")
    draft.put(replace(job, room=None, room_by=None))
    return time_passed(draft, m.TimePassed(time=event.time))


def no_room(state: Draft | State, job: m.Job, now: float) -> bool:
    """It ended for want of room, and there still is none: on the disk where that was, or on the state
    folder's."""
    if job.reason != EndReason.DISK_FULL:
        return False
    return not state.machine.room or (job.room is not None and now < (job.room_by or 0.0))


def _time_limit(job: m.Job) -> float | None:
    if job.schedule.time_limit is None or job.attempt_started_at is None:
        return None
    return job.attempt_started_at + job.schedule.time_limit - job.spent


def moments(job: m.Job, patience: float) -> list[float]:
    """When time will change something for the job, beside its begin."""
    passed = job.passed_since + patience if job.passed_since is not None else None
    by_state = {
        JobState.QUEUED: (passed,),
        JobState.BACKOFF: (job.not_before, job.room_by),
        JobState.RUNNING: (_time_limit(job),),
    }
    return [t for t in by_state.get(job.state, ()) if t is not None]


def unmet(draft: Draft | State, job: m.Job, now: float) -> WaitReason | None:
    """What keeps a queued job from being started whatever is free; None if nothing does."""
    outcome = draft.outcome if isinstance(draft, Draft) else draft.outcomes.get
    if dependencies.waits(job.schedule, outcome):
        return WaitReason.WAITING_FOR_JOBS
    if job.schedule.begin is not None and job.schedule.begin.timestamp() > now:
        return WaitReason.BEGIN_TIME
    if (draft.lease(job.id) if isinstance(draft, Draft) else draft.leases.get(job.id)) is not None:
        return WaitReason.RELEASING
    return None


def schedule(draft: Draft, now: float) -> None:
    queued = [job for job in draft.timed() if job.state is JobState.QUEUED]
    plan = scheduler.Pass(
        devices=draft.all_devices(),
        leases=draft.all_leases(),
        machine=draft.machine,
        may_start=lambda job: unmet(draft, job, now) is None,
    ).run(draft.candidates(now), draft.shapes(now), scheduler.overdue(queued, draft.patience, now))
    for grant in plan.grants:
        _grant(draft, grant, now)
    passed = draft.job(plan.passed) if plan.passed is not None else None
    if passed is not None:
        draft.put(replace(passed, passed_since=now))


def _grant(draft: Draft, grant: scheduler.Grant, now: float) -> None:
    job = draft.job(grant.job)
    assert job is not None, "a grant is for a job of the queue"
    attempt = job.attempt + 1
    lease = m.Lease(
        job=job.id,
        attempt=attempt,
        gpus=grant.gpus,
        cpu=grant.cpu,
        memory=grant.memory,
        granted_at=now,
    )
    draft.put_lease(lease)
    draft.put_attempt(attempt_record(lease))
    draft.put(
        replace(
            job,
            state=move(job.state, Trigger.GRANT),
            reason=None,
            attempt=attempt,
            passed_since=None,
            progressed_at=None,
        )
    )
    draft.order(start(lease))
