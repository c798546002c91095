"""What the end of an attempt means for its job: which trigger it pulls, and why. From evidence alone.

Our own order comes first, then the exit status, then what it failed of (`causes`):

    the job's own doing      again, as often in a row without progress as `recovery.max_retries` allows;
                             at once `failed` where the next attempt would meet the same
    not the job's doing      again, and not counted: a faulty GPU, memory that somebody else took, a full
    (`BLAMELESS`)            disk, a restart of the machine. Only what can go on where it stopped, though:
                             a command that is not told to be retried is not run twice
    too little host memory   `failed`: the same again would come to the same
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from trainforge.states import EndReason
from trainforged.core.causes import Cause, cause, describe, first_failure, in_a_line, raised
from trainforged.core.lifecycle import Trigger
from trainforged.core.messages import AttemptEnd, Job, RankEnd

HOPELESS_ERRORS = frozenset(
    {
        "ImportError", "ModuleNotFoundError", "SyntaxError", "IndentationError", "TabError", "NameError",
        "FileNotFoundError",
    }
)  # fmt: skip
"""Exceptions which, before any progress, the next attempt would meet again."""

BLAMELESS = frozenset({EndReason.GPU_FAULT, EndReason.GPU_MEMORY_TAKEN, EndReason.DISK_FULL})
LONGEST_BACKOFF = 600.0
START_RETRIES = 3  # a job that never ran is tried again this often, whatever its own limit
NOT_COUNTED = "started again, not counted as a retry"
NOT_TWICE = "not started again: a command is not run twice unless recovery.max_retries allows it"
THE_SAME = "not started again: the next attempt would meet the same"
USAGE = 2  # exit status of a program that does not understand its arguments


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt's end means: the trigger, the reason, the evidence."""

    trigger: Trigger
    reason: EndReason
    message: str  # one line
    counted: bool = False  # as a retry
    delay: float = 0.0  # seconds before the next start
    exit_code: int | None = None
    error: str | None = None  # to recognise the same failure again
    faulty: dict[str, str] = {}  # GPUs (UUID → why) to set aside
    followed: str | None = None  # what was done about it, or why nothing was; None: that was the order


def judge(job: Job, end: AttemptEnd, jitter: float, gpus: Sequence[str] = ()) -> Verdict:
    """`jitter` in [0, 1) spreads the backoff by ± a quarter. `gpus`: what the attempt held."""
    if job.stopping_for is not None and job.stopping_for is not EndReason.HANG:
        return _as_ordered(job, job.stopping_for, end)
    if end.exit_code == 0 and end.signal is None and not end.stopped and end.start_error is None:
        return Verdict(
            trigger=Trigger.SUCCEED, reason=EndReason.SUCCEEDED, message="ended with 0", exit_code=0
        )
    if end.stopped and job.stopping_for is None:
        return _interrupted(job, end)
    if job.stopping_for is EndReason.HANG:
        why = Cause(reason=EndReason.HANG, evidence=job.evidence or in_a_line(describe(end)))
    else:
        why = cause(end, gpus)
    if why.reason in BLAMELESS or end.rebooted:
        return _blameless(job, end, why, jitter)
    return _failure(job, end, why, jitter)


def shell_status(end: AttemptEnd) -> int | None:
    """The exit status as a shell would give it (128 + signal), of the first failing rank if known."""
    culprit: RankEnd | AttemptEnd = first_failure(end) or end
    if culprit.signal is not None:
        return 128 + culprit.signal
    return culprit.exit_code if culprit.exit_code is not None else end.exit_code


_ORDERED = {
    EndReason.CANCELLED: (Trigger.CANCEL, "cancelled"),
    EndReason.HELD: (Trigger.HOLD, "stopped to be held"),
    EndReason.TIME_LIMIT: (Trigger.FAIL, "reached its time limit"),
    EndReason.NAN_LOSS: (Trigger.FAIL, "its loss is no number"),
}


def _as_ordered(job: Job, order: EndReason, end: AttemptEnd) -> Verdict:
    trigger, words = _ORDERED[order]
    if order is EndReason.NAN_LOSS:
        words = job.evidence or words
    manner = "it stopped in time" if end.stopped else in_a_line(describe(end))
    return Verdict(trigger=trigger, reason=order, message=f"{words}; {manner}", exit_code=shell_status(end))


def _interrupted(job: Job, end: AttemptEnd) -> Verdict:
    """Asked to stop by someone else: the machine going down, or an operator."""
    message = "the machine was restarted" if end.rebooted else "was asked to stop from outside"
    reason = EndReason.LOST if end.rebooted else EndReason.KILLED
    again = _continues(job)
    return Verdict(
        trigger=Trigger.RETRY if again else Trigger.FAIL,
        reason=reason,
        message=message,
        exit_code=None if again else shell_status(end),
        followed=NOT_COUNTED if again else NOT_TWICE,
    )


def _continues(job: Job) -> bool:
    """It may be started again: it resumes, or its user said that it may be run again."""
    return job.script or job.recovery.max_retries > 0


def _blameless(job: Job, end: AttemptEnd, why: Cause, jitter: float) -> Verdict:
    if not _continues(job) and end.start_error is None:
        return _given_up(end, why, None, NOT_TWICE)
    moved = job.advanced or end.rebooted
    full = why.reason is EndReason.DISK_FULL  # waits for room whatever it did before
    delay = 0.0 if moved and not full else backoff(job.recovery.backoff, 1, jitter)
    return Verdict(
        trigger=Trigger.BACK_OFF if delay else Trigger.RETRY,
        reason=why.reason,
        message=why.evidence,
        delay=delay,
        faulty=why.faulty,
        followed=_blameless_followed(why, full),
    )


def _blameless_followed(why: Cause, full: bool) -> str:
    if full:
        return "started again when there is room, not counted as a retry"
    if why.reason is EndReason.GPU_MEMORY_TAKEN:
        return "started again where there is room on a GPU, not counted as a retry"
    return f"its GPU was set aside; {NOT_COUNTED}" if why.faulty else NOT_COUNTED


def _failure(job: Job, end: AttemptEnd, why: Cause, jitter: float) -> Verdict:
    error = _signature(end, why)
    streak = 0 if job.advanced else job.streak
    allowed = job.recovery.max_retries
    if why.reason is EndReason.START_FAILED:
        allowed = max(allowed, START_RETRIES)
    hopeless = _hopeless(job, end, why, error)
    if streak >= allowed or hopeless is not None:
        return _given_up(end, why, error, hopeless or _used_up(job, allowed))
    delay = backoff(job.recovery.backoff, streak, jitter)
    return Verdict(
        trigger=Trigger.BACK_OFF if delay else Trigger.RETRY,
        reason=why.reason,
        message=why.evidence,
        counted=True,
        delay=delay,
        error=error,
        followed=f"started again{f' after {delay:.0f} s' if delay else ''}, retry {streak + 1} of {allowed}",
    )


def _used_up(job: Job, allowed: int) -> str:
    if allowed == 0:
        return NOT_TWICE if not job.script else "not started again: recovery.max_retries is 0"
    times = "one retry" if allowed == 1 else f"{allowed} retries in a row"
    return f"not started again: {times} brought no progress (recovery.max_retries)"


def _given_up(end: AttemptEnd, why: Cause, error: str | None, followed: str) -> Verdict:
    return Verdict(
        trigger=Trigger.FAIL,
        reason=why.reason,
        message=why.evidence,
        exit_code=shell_status(end),
        error=error,
        faulty=why.faulty,
        followed=followed,
    )


def _signature(end: AttemptEnd, why: Cause) -> str | None:
    if why.reason is EndReason.GPU_OUT_OF_MEMORY:
        return str(why.reason)  # its message has figures in it that are never the same
    rank, said = first_failure(end), raised(end)
    if rank is not None:
        return rank.error
    return said.text if said is not None else end.start_error


def _hopeless(job: Job, end: AttemptEnd, why: Cause, error: str | None) -> str | None:
    """Why the next attempt would meet the same; None where it may not."""
    if why.reason is EndReason.OUT_OF_MEMORY:
        return "not started again: the same would take as much memory"
    if job.advanced:
        return None
    if error is not None and error == job.last_error:
        return "not started again: it failed twice in the same way, with no progress between"
    return THE_SAME if end.hopeless or _at_once(end) else None


def _at_once(end: AttemptEnd) -> bool:
    """By its kind, before any progress."""
    rank = first_failure(end)
    if rank is None:
        said = raised(end)
        return said is not None and said.type in HOPELESS_ERRORS
    # With an error only after `raise SystemExit(2) from error`: the script says what it cannot run with.
    told = rank.error_type is not None or "usage: " in end.tails.get(rank.rank, "")
    return (rank.exit_code == USAGE and told) or rank.error_type in HOPELESS_ERRORS


def backoff(first: float, streak: int, jitter: float) -> float:
    """Seconds before the retry after `streak` retries in a row without progress; 0 for the first."""
    if streak == 0:
        return 0.0
    delay: float = min(first * 2.0 ** (streak - 1), LONGEST_BACKOFF)
    return delay * (0.75 + 0.5 * jitter)
