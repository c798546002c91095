"""The core's one door: `decide(state, events)` says what changes, what is to be done, what to answer.

No I/O, no clock, no randomness. Every event has a handler, named below; one that is refused changes
nothing. After the events, one scheduling pass, if anything happened that could let a job start.
Effects are not stored: `outstanding` derives them from the committed state after a restart.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from trainforge.states import JobState
from trainforged.core import attempts, gpus, requests, turns
from trainforged.core import messages as m
from trainforged.core.endings import end_dependents
from trainforged.core.leases import release, start
from trainforged.core.lifecycle import IllegalMove
from trainforged.core.state import Draft, State


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """`replies` has one entry for each event, in order."""

    changes: tuple[m.Change, ...]
    effects: tuple[m.Effect, ...]
    replies: tuple[m.Reply, ...]


def decide(state: State, events: Sequence[m.Event]) -> Decision:
    """One batch, one decision. `state` is not changed."""
    draft = Draft(state)
    replies = tuple(_handle(draft, event) for event in events)
    if events:
        end_dependents(draft, max(event.time for event in events))
    if draft.reschedule and events:
        turns.schedule(draft, max(event.time for event in events))
    return Decision(changes=draft.changes(), effects=tuple(draft.effects), replies=replies)


def next_wakeup(state: State, since: float) -> float | None:
    """The first moment after `since`, the time of the last `TimePassed`, at which time alone changes
    something; None if there is none."""
    due = [t for i in state.timed for t in turns.moments(state.jobs[i], state.patience) if t > since]
    next_begin = bisect.bisect_right(state.sleeping, since, key=lambda entry: entry[0])
    due += [begin for begin, _ in state.sleeping[next_begin : next_begin + 1]]
    return min(due, default=None)


def outstanding(state: State) -> tuple[m.Effect, ...]:
    """The orders that the state says are not yet obeyed."""
    effects: list[m.Effect] = []
    for job in state.jobs.values():
        lease = state.leases.get(job.id)
        if lease is None:
            continue
        if lease.releasing:
            effects.append(release(lease))
        elif job.state is JobState.STARTING:
            effects.append(start(lease))
        elif job.state.live:
            effects.append(m.AdoptAttempt(job=job.id, attempt=job.attempt))
        if job.state is JobState.STOPPING and not lease.releasing:
            effects.append(m.StopAttempt(job=job.id, attempt=job.attempt, grace=job.recovery.grace))
    return tuple(effects)


def _handle(draft: Draft, event: m.Event) -> m.Reply:
    try:
        return _HANDLERS[type(event)](draft, event)
    except IllegalMove as error:
        return m.Refused(code="conflict", message=str(error))


Handler = Callable[[Draft, Any], m.Reply]

_HANDLERS: dict[type[m.Event], Handler] = {
    m.Submitted: requests.submitted,
    m.CancelRequested: requests.cancel_requested,
    m.HoldRequested: requests.hold_requested,
    m.ReleaseRequested: requests.release_requested,
    m.UpdateRequested: requests.update_requested,
    m.RemoveRequested: requests.remove_requested,
    m.DaemonStarted: attempts.daemon_started,
    m.AttemptStarted: attempts.attempt_started,
    m.Progressed: attempts.progressed,
    m.HangFound: attempts.hang_found,
    m.LossNotFinite: attempts.loss_not_finite,
    m.Noted: attempts.noted,
    m.AttemptEnded: attempts.attempt_ended,
    m.LeaseReleased: attempts.lease_released,
    m.DevicesObserved: gpus.devices_observed,
    m.GpuFaulted: gpus.gpu_faulted,
    m.GpuCleared: gpus.gpu_cleared,
    m.DrainRequested: gpus.drain_requested,
    m.UndrainRequested: gpus.undrain_requested,
    m.RoomChanged: turns.room_changed,
    m.RoomFound: turns.room_found,
    m.SettingsChanged: gpus.settings_changed,
    m.ClockSet: turns.clock_set,
    m.DatabaseMended: turns.database_mended,
    m.TimePassed: turns.time_passed,
}
