"""The life of a job: which state follows which.

`TABLE` is the whole lifecycle. A pair that is not in it is an error (`IllegalMove`) and changes
nothing. Which trigger an attempt's end pulls is decided in `judgement`.
"""

from __future__ import annotations

from enum import StrEnum

from trainforge.states import JobState


class Trigger(StrEnum):
    """What can happen to a job, as far as its state is concerned."""

    GRANT = "grant"  # the scheduler gave it a lease
    STARTED = "started"  # its shim runs (told again after a restart)
    STOP = "stop"  # we ordered its attempt to stop
    LOSE_SIGHT = "lose_sight"  # a new daemon does not know yet what became of it
    RETRY = "retry"  # back into the queue
    BACK_OFF = "back_off"  # back into the queue later
    HOLD = "hold"
    RELEASE = "release"
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"


S, T = JobState, Trigger

TABLE: dict[tuple[JobState, Trigger], JobState] = {
    (S.QUEUED, T.GRANT): S.STARTING,
    (S.QUEUED, T.HOLD): S.HELD,
    (S.QUEUED, T.FAIL): S.FAILED,  # a job it waits for did not succeed
    (S.QUEUED, T.CANCEL): S.CANCELLED,
    (S.HELD, T.RELEASE): S.QUEUED,
    (S.HELD, T.FAIL): S.FAILED,
    (S.HELD, T.CANCEL): S.CANCELLED,
    (S.BACKOFF, T.RETRY): S.QUEUED,
    (S.BACKOFF, T.HOLD): S.HELD,
    (S.BACKOFF, T.FAIL): S.FAILED,
    (S.BACKOFF, T.CANCEL): S.CANCELLED,
    (S.STARTING, T.STARTED): S.RUNNING,
    (S.STARTING, T.STOP): S.STOPPING,
    (S.STARTING, T.RETRY): S.QUEUED,
    (S.STARTING, T.BACK_OFF): S.BACKOFF,
    (S.STARTING, T.SUCCEED): S.SUCCEEDED,
    (S.STARTING, T.FAIL): S.FAILED,
    (S.RUNNING, T.STARTED): S.RUNNING,
    (S.RUNNING, T.STOP): S.STOPPING,
    (S.RUNNING, T.LOSE_SIGHT): S.UNKNOWN,
    (S.RUNNING, T.RETRY): S.QUEUED,
    (S.RUNNING, T.BACK_OFF): S.BACKOFF,
    (S.RUNNING, T.SUCCEED): S.SUCCEEDED,
    (S.RUNNING, T.FAIL): S.FAILED,
    (S.UNKNOWN, T.STARTED): S.RUNNING,
    (S.UNKNOWN, T.STOP): S.STOPPING,
    (S.UNKNOWN, T.LOSE_SIGHT): S.UNKNOWN,
    (S.UNKNOWN, T.RETRY): S.QUEUED,
    (S.UNKNOWN, T.BACK_OFF): S.BACKOFF,
    (S.UNKNOWN, T.SUCCEED): S.SUCCEEDED,
    (S.UNKNOWN, T.FAIL): S.FAILED,
    (S.STOPPING, T.STARTED): S.STOPPING,
    (S.STOPPING, T.STOP): S.STOPPING,  # a second order: cancel after hold, or now
    (S.STOPPING, T.LOSE_SIGHT): S.STOPPING,
    (S.STOPPING, T.RETRY): S.QUEUED,
    (S.STOPPING, T.BACK_OFF): S.BACKOFF,
    (S.STOPPING, T.HOLD): S.HELD,
    (S.STOPPING, T.SUCCEED): S.SUCCEEDED,
    (S.STOPPING, T.FAIL): S.FAILED,
    (S.STOPPING, T.CANCEL): S.CANCELLED,
}


class IllegalMove(Exception):
    """This trigger means nothing in this state."""

    def __init__(self, state: JobState, trigger: Trigger) -> None:
        super().__init__(f"a job that is {state} cannot {trigger.replace('_', ' ')}")
        self.state = state
        self.trigger = trigger


def move(state: JobState, trigger: Trigger) -> JobState:
    """The next state. Raises `IllegalMove`."""
    try:
        return TABLE[state, trigger]
    except KeyError:
        raise IllegalMove(state, trigger) from None
