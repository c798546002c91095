"""What the core takes to decide, on the state that a stopped daemon left: as it is, and made worse."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from benchmarks import timing
from benchmarks.figures import Bound, Figure
from trainforge.spec import Recovery, Resources, Schedule
from trainforged.core import messages as m
from trainforged.core.machine import decide, next_wakeup
from trainforged.core.state import State
from trainforged.storage.jobs.store import JobStore, Remembered

TOGETHER = 100
LATER = 1e6  # seconds from now


def measure_passes(database: Path, rounds: int) -> list[Figure]:
    """With jobs that could all start if there were GPUs; then with free GPUs and none that may start."""
    kept, now = remembered(database), time.time()
    state, holder = restored(kept), next(iter(kept.leases))
    ended = m.AttemptEnded(
        job=holder.job, attempt=holder.attempt, end=m.AttemptEnd(ended_at=now, exit_code=0), time=now
    )
    released = m.LeaseReleased(job=holder.job, attempt=holder.attempt, time=now)
    later = datetime.datetime.fromtimestamp(now + LATER, datetime.UTC)
    for_a_job = changed(kept, lambda schedule: replace(schedule, after=(kept.next_id + 1,)))
    for_their_time = changed(kept, lambda schedule: replace(schedule, begin=later))
    tick = m.TimePassed(time=now)
    return [
        _figure("one job is submitted", state, [_submitted(now)], rounds),
        _figure(f"{TOGETHER} are, in one batch", state, [_submitted(now)] * TOGETHER, rounds),
        _figure("time has passed", state, [tick], rounds),
        _figure("all GPUs come free", state, [ended, released], rounds),
        _figure("GPUs are free, and all wait for a job", for_a_job, [tick], rounds),
        _figure("GPUs are free, and all wait for their time", for_their_time, [tick], rounds),
    ]


def _figure(what: str, state: State, events: Sequence[m.Event], rounds: int) -> Figure:
    """A decision, and the look at when the next is due, as the daemon's loop takes them."""

    def turn() -> None:
        decide(state, events)
        next_wakeup(state, events[0].time)

    taken = [1000 * timing.timed(turn) for _ in range(rounds)]
    return Figure(
        what=f"a scheduling pass: {what}",
        value=timing.median(taken),
        unit="ms",
        bound=Bound(limit=50),
        samples=rounds,
        spread=timing.quartiles(taken),
    )


def remembered(database: Path) -> Remembered:
    store = JobStore(database)
    store.open()
    try:
        return store.load()
    finally:
        store.close()


def restored(kept: Remembered) -> State:
    """As the daemon does."""
    state = State()
    state.outcomes, state.next_id = kept.outcomes, kept.next_id
    if kept.machine is not None:
        state.machine = kept.machine
    state.restore(kept.jobs, kept.leases, kept.devices)
    return state


def changed(kept: Remembered, change: Callable[[Schedule], Schedule]) -> State:
    """With the GPUs free, the job that held them gone, and every other one's schedule changed."""
    held = {lease.job for lease in kept.leases}
    jobs = [replace(job, schedule=change(job.schedule)) for job in kept.jobs if job.id not in held]
    return restored(replace(kept, jobs=tuple(jobs), leases=()))


def _submitted(now: float) -> m.Submitted:
    job = m.NewJob(
        key="one-more",
        name="one-more",
        user="user",
        script=False,
        resources=Resources(gpu=1),
        schedule=Schedule(),
        recovery=Recovery(),
    )
    return m.Submitted(time=now, jobs=(job,))
