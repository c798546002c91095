"""The life of a job: which state follows which, and what the end of an attempt means.

`TABLE` is the whole lifecycle. A pair that is not in it is an error (`IllegalMove`) and changes
nothing. Which trigger an attempt's end pulls is decided by `judge` from evidence alone.
"""

from __future__ import annotations

import signal as signals
from enum import StrEnum

import msgspec

from trainforge.states import EndReason, JobState
from trainforged.core.messages import AttemptEnd, Job, RankEnd


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


# ---------------------------------------------------------------- the end of an attempt

HOPELESS_ERRORS = frozenset(
    {"ImportError", "ModuleNotFoundError", "SyntaxError", "IndentationError", "TabError", "NameError"}
)
"""Exceptions which, before any progress, the next attempt would meet again."""

LONGEST_BACKOFF = 600.0
LONGEST_LINE = 200  # characters of evidence in a list
START_RETRIES = 3  # a job that never ran is tried again this often, whatever its own limit


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt's end means: the trigger, the reason, the evidence in one sentence."""

    trigger: Trigger
    reason: EndReason
    message: str  # one line
    counted: bool = False  # as a retry
    delay: float = 0.0  # seconds before the next start
    exit_code: int | None = None
    error: str | None = None  # to recognise the same failure again


def judge(job: Job, end: AttemptEnd, jitter: float) -> Verdict:
    """Decide from the evidence. `jitter` in [0, 1) spreads the backoff by ± a quarter."""
    if job.stopping_for is not None and job.stopping_for is not EndReason.HANG:
        return _as_ordered(job, job.stopping_for, end)
    if end.exit_code == 0 and end.signal is None and not end.stopped and end.start_error is None:
        return Verdict(trigger=T.SUCCEED, reason=EndReason.SUCCEEDED, message="ended with 0", exit_code=0)
    if end.stopped and job.stopping_for is None:
        return _interrupted(job, end)
    return _failure(job, end, jitter)


def first_failure(end: AttemptEnd) -> RankEnd | None:
    """The rank that failed first, which is the one to look at; None where none is known."""
    return next((rank for rank in end.ranks if rank.signal or rank.exit_code or rank.error), None)


def shell_status(end: AttemptEnd) -> int | None:
    """The exit status as a shell would give it (128 + signal), of the first failing rank if known."""
    culprit: RankEnd | AttemptEnd = first_failure(end) or end
    if culprit.signal is not None:
        return 128 + culprit.signal
    return culprit.exit_code if culprit.exit_code is not None else end.exit_code


def describe(end: AttemptEnd) -> str:
    """The evidence, whole: the message of an exception, or of a start that failed, may have many lines."""
    if end.start_error is not None:
        return end.start_error
    if end.lost:
        return "the attempt and its shim are gone without a status"
    rank = first_failure(end)
    if rank is not None:
        return f"rank {rank.rank} {rank.error or _status(rank.exit_code, rank.signal)}"
    return _status(end.exit_code, end.signal)


def in_a_line(text: str) -> str:
    """Its first line that says something, and … where there is more."""
    first, _, rest = text.strip().partition("\n")
    first = first.rstrip()
    more = bool(rest.strip()) or len(first) > LONGEST_LINE
    return first[:LONGEST_LINE] + (" …" if more else "")


def _status(exit_code: int | None, signal: int | None) -> str:
    if signal is not None:
        return f"was killed by signal {signal}{_named(signal)}"
    return "ended with an unknown status" if exit_code is None else f"ended with {exit_code}"


def _named(signal: int) -> str:
    try:
        return f" ({signals.Signals(signal).name})"
    except ValueError:
        return ""  # a real-time signal


_ORDERED = {
    EndReason.CANCELLED: (T.CANCEL, "cancelled"),
    EndReason.HELD: (T.HOLD, "stopped to be held"),
    EndReason.TIME_LIMIT: (T.FAIL, "reached its time limit"),
}


def _as_ordered(job: Job, order: EndReason, end: AttemptEnd) -> Verdict:
    trigger, words = _ORDERED[order]
    manner = "in time" if end.stopped else in_a_line(describe(end))
    return Verdict(trigger=trigger, reason=order, message=f"{words}; {manner}", exit_code=shell_status(end))


def _interrupted(job: Job, end: AttemptEnd) -> Verdict:
    """Asked to stop by someone else: the machine going down, or an operator."""
    message = "was asked to stop from outside"
    if job.script or job.recovery.max_retries:
        return Verdict(trigger=T.RETRY, reason=EndReason.KILLED, message=message)
    return Verdict(trigger=T.FAIL, reason=EndReason.KILLED, message=message, exit_code=shell_status(end))


def _failure(job: Job, end: AttemptEnd, jitter: float) -> Verdict:
    reason, message, error = _cause(job, end), in_a_line(describe(end)), _signature(end)
    progressed = job.advanced
    streak = 0 if progressed else job.streak
    allowed = job.recovery.max_retries
    if reason is EndReason.START_FAILED:
        allowed = max(allowed, START_RETRIES)
    if streak >= allowed or (not progressed and _hopeless(job, end, error)):
        return Verdict(
            trigger=T.FAIL, reason=reason, message=message, exit_code=shell_status(end), error=error
        )
    delay = backoff(job.recovery.backoff, streak, jitter)
    trigger = T.BACK_OFF if delay else T.RETRY
    return Verdict(trigger=trigger, reason=reason, message=message, counted=True, delay=delay, error=error)


def _cause(job: Job, end: AttemptEnd) -> EndReason:
    if job.stopping_for is not None:
        return job.stopping_for
    if end.start_error is not None:
        return EndReason.START_FAILED
    if end.lost:
        return EndReason.LOST
    rank = first_failure(end)
    signal = rank.signal if rank else end.signal
    return EndReason.KILLED if signal is not None else EndReason.USER_ERROR


def _signature(end: AttemptEnd) -> str | None:
    rank = first_failure(end)
    return rank.error if rank else end.start_error


def _hopeless(job: Job, end: AttemptEnd, error: str | None) -> bool:
    if end.hopeless:
        return True
    rank = first_failure(end)
    if rank is None or rank.error_type is None:
        return False
    return rank.error_type in HOPELESS_ERRORS or (error is not None and error == job.last_error)


def backoff(first: float, streak: int, jitter: float) -> float:
    """Seconds before the retry after `streak` retries in a row without progress; 0 for the first."""
    if streak == 0:
        return 0.0
    delay: float = min(first * 2.0 ** (streak - 1), LONGEST_BACKOFF)
    return delay * (0.75 + 0.5 * jitter)
