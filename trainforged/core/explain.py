"""Why a job is where it is: a word for programs, a sentence for people. Pure, from the state."""

from __future__ import annotations

import datetime
from collections.abc import Callable

from trainforge.states import EndReason, JobState, WaitReason
from trainforged.core import dependencies, scheduler
from trainforged.core import messages as m
from trainforged.core.state import State, place
from trainforged.core.turns import no_room, unmet

NAMED = 4  # holders of what a job waits for that are named
ENDS = {"after": "succeed", "afterany": "end", "afternotok": "fail"}
TimeLeft = Callable[[int], float | None]
"""Seconds that a running job still needs, as far as that can be told."""


def reason(state: State, job: m.Job, now: float) -> str | None:
    """`JobView.reason`: a wait reason for a job that waits, else why it is or ended as it did."""
    if job.state is JobState.HELD:
        return WaitReason.HELD
    if job.state is JobState.QUEUED:
        return wait_reason(state, job, now)
    if job.state is JobState.STOPPING and job.stopping_for is not None:
        return str(job.stopping_for)
    return job.reason


def wait_reason(state: State, job: m.Job, now: float) -> WaitReason:
    """What a queued job waits for."""
    blocked = unmet(state, job, now)
    if blocked is not None:
        return blocked
    devices = list(state.devices.values())
    free = scheduler.free(devices, state.leases.values(), state.machine)
    short = scheduler.shortage(job.resources, free, state.machine, len(devices))
    return short or WaitReason.WAITING_FOR_TURN


def why(state: State, job: m.Job, now: float, left: TimeLeft) -> str:
    """The sentence."""
    match job.state:
        case JobState.QUEUED:
            return _why_queued(state, job, now, left)
        case JobState.HELD:
            return f"is held; `tfctl release {job.id}` lets it go on"
        case JobState.BACKOFF:
            if no_room(state, job, now):
                return f"waits for room on the disk{_wanted(job)}: {job.evidence or job.reason}"
            wait = _duration(max(0.0, (job.not_before or now) - now))
            return f"starts again in {wait} (retry {job.retries}): {job.evidence or job.reason}"
        case JobState.STARTING:
            return f"attempt {job.attempt} is being started"
        case JobState.RUNNING:
            return f"runs (attempt {job.attempt})"
        case JobState.STOPPING:
            order = str(job.stopping_for or "stop").replace("_", " ")
            return f"is stopping ({order})"
        case JobState.UNKNOWN:
            return f"is being found out: what became of attempt {job.attempt}"
        case JobState.SUCCEEDED:
            return "succeeded"
        case JobState.CANCELLED:
            in_vain = job.reason == EndReason.DEPENDENCY and job.evidence
            return f"was cancelled: {job.evidence}" if in_vain else "was cancelled"
        case JobState.FAILED:
            cause = (job.reason or "unknown").replace("_", " ")
            return f"failed ({cause}): {job.evidence or 'no evidence was kept'}"


def _wanted(job: m.Job) -> str:
    if job.room is None:
        return ""
    free, wanted = (f"{size / 2**20:,.0f} MiB" for size in (job.room.free, job.room.wanted))
    return f" of {job.room.path} ({free} were free; it goes on at {wanted})"


def _why_queued(state: State, job: m.Job, now: float, left: TimeLeft) -> str:
    match wait_reason(state, job, now):
        case WaitReason.WAITING_FOR_JOBS:
            return f"waits for {_jobs(state, job)}"
        case WaitReason.BEGIN_TIME:
            begin = job.schedule.begin
            assert begin is not None, "only a job with a begin time waits for it"
            local = begin.astimezone()
            day = "" if local.date() == datetime.datetime.fromtimestamp(now).date() else f"{local:%Y-%m-%d} "
            return f"waits until {day}{local:%H:%M:%S}"
        case WaitReason.RELEASING:
            return "waits until nothing of its previous attempt is left"
        case WaitReason.WAITING_FOR_TURN:
            kept = scheduler.overdue(state.jobs.values(), state.patience, now)
            if kept is not None and kept.id != job.id:
                return f"waits: what is free is kept for job {kept.id}, which has waited longest"
            return "is about to start"
        case short:
            return _why_short(state, job, short, left) + _starts(state, job, now, left)


def _jobs(state: State, job: m.Job) -> str:
    pending: dict[str, list[int]] = {}
    for key, other in dependencies.unmet(job.schedule, state.outcomes.get):
        pending.setdefault(key, []).append(other)
    return " and ".join(
        f"job{'s' if len(jobs) > 1 else ''} {', '.join(map(str, jobs))} to {ENDS[key]}"
        for key, jobs in pending.items()
    )


def _why_short(state: State, job: m.Job, short: WaitReason, left: TimeLeft) -> str:
    devices = sorted(state.devices.values(), key=lambda device: device.index)
    free = scheduler.free(devices, state.leases.values(), state.machine)
    least, _ = job.resources.gpu_range
    wanted = scheduler.needs(job.resources, least, state.machine, len(devices))
    match short:
        case WaitReason.WAITING_FOR_GPUS:
            need = f"{wanted.gpu} GPU{'s' if wanted.gpu > 1 else ''}: {len(free.gpus)} free"
        case WaitReason.WAITING_FOR_CPU:
            need = f"{_cores(wanted.cpu)}: {free.cpu} free"
        case _:
            need = f"{_size(wanted.memory)} of memory: {_size(free.memory)} free"
    parts = [f"waits for {need}", *_holders(state, devices, short, left)]
    if short is WaitReason.WAITING_FOR_GPUS:
        parts += [f"GPU {d.index} is kept back: {d.refusal}" for d in devices if d.refusal is not None]
    return "; ".join(parts)


def _holders(state: State, devices: list[m.Device], short: WaitReason, left: TimeLeft) -> list[str]:
    index = {device.uuid: device.index for device in devices}
    out = []
    for lease in sorted(state.leases.values(), key=lambda lease: lease.job):
        if short is WaitReason.WAITING_FOR_GPUS and lease.gpus:
            held = "GPU " + ", ".join(str(index.get(uuid, "?")) for uuid in lease.gpus)
        elif short is WaitReason.WAITING_FOR_CPU and lease.cpu:
            held = _cores(lease.cpu)
        elif short is WaitReason.WAITING_FOR_MEMORY and lease.memory:
            held = _size(lease.memory)
        else:
            continue
        out.append(f"job {lease.job} holds {held}{_about(left(lease.job))}")
    named = out if len(out) <= NAMED else out[: NAMED - 1]
    return named + ([f"and {len(out) - len(named)} more jobs hold some"] if len(named) < len(out) else [])


def _starts(state: State, job: m.Job, now: float, left: TimeLeft) -> str:
    """When the next in line has what it asks for, if those who hold it end when they are expected to. Of
    others it cannot be told: they may pass, or be passed."""
    first = state.ready[0] if state.ready else None
    if place(job) != first and job.passed_since is None:
        return ""  # before all jobs are looked at: thousands wait
    kept = scheduler.overdue(state.jobs.values(), state.patience, now)
    if place(job) != (first if kept is None else place(kept)):
        return ""
    leases, devices = dict(state.leases), list(state.devices.values())
    ends = ((seconds, other) for other in leases if (seconds := left(other)) is not None)
    for seconds, other in sorted(ends):
        del leases[other]
        free = scheduler.free(devices, leases.values(), state.machine)
        if scheduler.shortage(job.resources, free, state.machine, len(devices)) is None:
            return f"; it starts next, in about {_duration(seconds)}"
    return ""


def _about(seconds: float | None) -> str:
    return "" if seconds is None else f" (about {_duration(seconds)} left)"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _cores(number: int) -> str:
    return f"{number} core{'s' if number != 1 else ''}"


def _size(amount: int) -> str:
    return f"{amount / 2**30:.1f} GiB"
