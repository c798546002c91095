"""What attempts tell: they started, got on, ended, left nothing behind."""

from __future__ import annotations

import msgspec

from trainforge.states import EndReason, JobState
from trainforged.core import messages as m
from trainforged.core.endings import end, stop
from trainforged.core.gpus import set_aside
from trainforged.core.judgement import Verdict, judge
from trainforged.core.leases import attempt_record, release
from trainforged.core.lifecycle import Trigger, move
from trainforged.core.state import Draft

replace = msgspec.structs.replace

WITHOUT_ROOM = 3600.0  # seconds after which a job that found a disk full is tried all the same
PROGRESS_GRAIN = 10.0  # seconds between two commits of the same job's progress


def daemon_started(draft: Draft, event: m.DaemonStarted) -> m.Reply:
    draft.machine = event.machine
    for job in list(draft.base.jobs.values()):
        if job.state is JobState.RUNNING:
            draft.put(replace(job, state=move(job.state, Trigger.LOSE_SIGHT)))
    draft.reschedule = True
    return m.Accepted()


def attempt_started(draft: Draft, event: m.AttemptStarted) -> m.Reply:
    job = _current(draft, event.job, event.attempt)
    if job is None:
        return _stale(event.job, event.attempt)
    first = job.attempt_started_at is None
    started = job.attempt_started_at if job.attempt_started_at is not None else event.time
    draft.put(
        replace(
            job,
            state=move(job.state, Trigger.STARTED),
            started_at=job.started_at if job.started_at is not None else started,
            attempt_started_at=started,
        )
    )
    lease = draft.lease(job.id)
    if first and lease is not None:
        lease = replace(lease, resumed_from=event.resumed_from)
        draft.put_lease(lease)
        draft.put_attempt(attempt_record(lease, started_at=started))
        waited = {"waited": _waited(job, started)} if job.attempt == 1 else {}
        words = f"attempt {job.attempt} started"
        draft.note(event.time, "attempt_started", words, job.id, attempt=job.attempt, **waited)
    return m.Accepted(jobs=(job.id,))


def _waited(job: m.Job, started: float) -> float:
    """Seconds from when it might first have run to its first start."""
    begin = job.schedule.begin.timestamp() if job.schedule.begin is not None else 0.0
    return max(0.0, started - max(job.submitted_at, begin))


def _reached(job: m.Job, position: float | None) -> m.Job:
    """With `furthest` and `advanced` as they are once an attempt has come to `position`."""
    if position is None or (job.furthest is not None and position <= job.furthest):
        return job
    return replace(job, furthest=position, advanced=True)


def progressed(draft: Draft, event: m.Progressed) -> m.Reply:
    job = _current(draft, event.job, event.attempt)
    if job is None:
        return _stale(event.job, event.attempt)
    moved = _reached(job, event.position)
    due = job.progressed_at is None or event.time - job.progressed_at >= PROGRESS_GRAIN
    if due or moved.advanced != job.advanced:
        draft.put(replace(moved, progressed_at=event.time))
    return m.Accepted(jobs=(job.id,))


def hang_found(draft: Draft, event: m.HangFound) -> m.Reply:
    job = _current(draft, event.job, event.attempt)
    if job is None or job.state is not JobState.RUNNING:
        return _stale(event.job, event.attempt)
    draft.note(event.time, "hang_found", event.message, job.id, attempt=job.attempt)
    stop(draft, replace(job, evidence=event.message), event.time, EndReason.HANG, job.recovery.grace)
    return m.Accepted(jobs=(job.id,))


def loss_not_finite(draft: Draft, event: m.LossNotFinite) -> m.Reply:
    job = _current(draft, event.job, event.attempt)
    if job is None or job.state is not JobState.RUNNING:
        return _stale(event.job, event.attempt)
    if job.recovery.nan_loss != "off":
        draft.note(event.time, "loss_not_finite", event.message, job.id, attempt=job.attempt)
    if job.recovery.nan_loss == "stop":
        stop(draft, replace(job, evidence=event.message), event.time, EndReason.NAN_LOSS, job.recovery.grace)
    return m.Accepted(jobs=(job.id,))


def noted(draft: Draft, event: m.Noted) -> m.Reply:
    if not draft.known(event.job):
        return m.Refused(code="no_such_job", message=f"there is no job {event.job}")
    draft.note(event.time, event.type, event.message, event.job, **event.data)
    return m.Accepted(jobs=(event.job,))


def attempt_ended(draft: Draft, event: m.AttemptEnded) -> m.Reply:
    job = _current(draft, event.job, event.attempt)
    lease = draft.lease(event.job)
    if job is None or lease is None:
        return _stale(event.job, event.attempt)
    job = _reached(job, event.position)
    how = _with_gpus(draft, lease, event.end)
    verdict = judge(job, how, event.jitter, lease.gpus)
    started = event.end.started_at if event.end.started_at is not None else job.attempt_started_at
    by_clock = max(0.0, event.end.ended_at - started) if started is not None else 0.0
    spent = event.end.ran if event.end.ran is not None else by_clock
    draft.put_attempt(
        attempt_record(
            lease,
            started_at=started,
            ended_at=event.end.ended_at,
            reason=verdict.reason,
            end=how,
            followed=verdict.followed,
        )
    )
    draft.put_lease(replace(lease, releasing=True))
    for uuid, why in verdict.faulty.items():
        set_aside(draft, event.time, uuid, why)
    draft.order(release(lease))
    job = replace(
        job,
        spent=job.spent + spent,
        started_at=job.started_at if job.started_at is not None else started,
        streak=0 if job.advanced else job.streak,
        attempt_started_at=None,
        progressed_at=None,
        advanced=False,
        stopping_for=None,
        last_error=verdict.error,
    )
    draft.note(
        event.time,
        "attempt_ended",
        f"attempt {job.attempt}: {verdict.message}",
        job.id,
        attempt=job.attempt,
        reason=str(verdict.reason),
        exit_code=verdict.exit_code,
    )
    _follow(draft, job, event.time, how, verdict)
    draft.reschedule = True
    return m.Accepted(jobs=(job.id,))


def _with_gpus(draft: Draft, lease: m.Lease, how: m.AttemptEnd) -> m.AttemptEnd:
    """With what is known of the GPUs it held."""
    held = [device for uuid in lease.gpus if (device := draft.device(uuid)) is not None]
    foreign = {device.uuid: device.foreign for device in held if device.foreign}
    faults = {device.uuid: why for device in held if (why := _fault(device))}
    return replace(how, foreign=how.foreign | foreign, faults=how.faults | faults)


def _fault(device: m.Device) -> str | None:
    return device.set_aside if device.unread else device.missing or device.set_aside


def _follow(draft: Draft, job: m.Job, time: float, how: m.AttemptEnd, verdict: Verdict) -> None:
    """Put the verdict on an attempt into effect for its job."""
    after = move(job.state, verdict.trigger)
    if after.ended:
        end(
            draft,
            job,
            time,
            verdict.trigger,
            verdict.reason,
            verdict.message,
            verdict.exit_code,
            how.ended_at,
        )
        return
    if after is JobState.HELD:
        draft.put(replace(job, state=after, reason=None))
        draft.note(time, "job_held", "held; it goes on when it is released", job.id)
        return
    counted = 1 if verdict.counted else 0
    room = how.room if verdict.reason is EndReason.DISK_FULL else None
    draft.put(
        replace(
            job,
            state=after,
            reason=str(verdict.reason),
            evidence=verdict.message,
            retries=job.retries + counted,
            streak=job.streak + counted,
            not_before=time + verdict.delay if verdict.delay else None,
            room=room,
            room_by=time + WITHOUT_ROOM if room is not None else None,
        )
    )
    when = f" in {verdict.delay:.0f} s" if verdict.delay else ""
    draft.note(time, "job_retried", f"will be started again{when}: {verdict.message}", job.id)


def lease_released(draft: Draft, event: m.LeaseReleased) -> m.Reply:
    lease = draft.lease(event.job)
    if lease is None or lease.attempt != event.attempt or not lease.releasing:
        return _stale(event.job, event.attempt)
    draft.end_lease(event.job)
    for uuid, why in event.stuck.items():
        set_aside(draft, event.time, uuid, why)
    draft.reschedule = True
    return m.Accepted(jobs=(event.job,))


def _current(draft: Draft, job_id: int, attempt: int) -> m.Job | None:
    """The job if this is its attempt and the attempt is not over."""
    job = draft.job(job_id)
    return job if job is not None and job.attempt == attempt and job.state.live else None


def _stale(job_id: int, attempt: int) -> m.Refused:
    return m.Refused(code="conflict", message=f"attempt {attempt} of job {job_id} is not current")
