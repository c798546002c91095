"""The lifecycle is a table; the end of an attempt is judged from evidence."""

from __future__ import annotations

import itertools

import pytest

from trainforge.spec import Recovery
from trainforge.states import ENDED, LIVE, EndReason, JobState
from trainforged.core.lifecycle import (
    LONGEST_BACKOFF,
    TABLE,
    IllegalMove,
    Trigger,
    backoff,
    judge,
    move,
    shell_status,
)
from trainforged.core.messages import AttemptEnd, Job, RankEnd

EVERY_PAIR = list(itertools.product(JobState, Trigger))


@pytest.mark.parametrize(("state", "trigger"), EVERY_PAIR)
def test_a_pair_that_is_not_in_the_table_is_an_error(state: JobState, trigger: Trigger) -> None:
    if (state, trigger) in TABLE:
        assert move(state, trigger) is TABLE[state, trigger]
    else:
        with pytest.raises(IllegalMove, match=f"{state} cannot"):
            move(state, trigger)


def test_an_ended_job_never_moves_again() -> None:
    assert not [pair for pair in TABLE if pair[0] in ENDED]


def test_every_state_can_be_reached_and_left() -> None:
    assert set(TABLE.values()) == set(JobState)
    assert {state for state, _ in TABLE} == set(JobState) - ENDED


def test_only_a_grant_makes_an_attempt() -> None:
    into_life = {pair for pair, after in TABLE.items() if after in LIVE and pair[0] not in LIVE}
    assert into_life == {(JobState.QUEUED, Trigger.GRANT)}


def a_job(**fields: object) -> Job:
    defaults: dict[str, object] = {
        "id": 1, "name": "job", "user": "alice", "state": JobState.RUNNING,
        "submitted_at": 0.0, "script": True, "attempt": 1, "recovery": Recovery(max_retries=2),
    }  # fmt: skip
    return Job(**(defaults | fields))  # type: ignore[arg-type]


def rank(number: int, **fields: object) -> RankEnd:
    return RankEnd(rank=number, **fields)  # type: ignore[arg-type]


COMMAND = {"script": False, "recovery": Recovery(max_retries=0)}
IMPORT = rank(0, exit_code=1, error_type="ImportError", error="ImportError: no foo")
VALUE = rank(0, exit_code=1, error_type="ValueError", error="ValueError: 7")

VERDICTS = [
    # job, end, trigger, reason, counted
    ({}, {"exit_code": 0}, Trigger.SUCCEED, EndReason.SUCCEEDED, False),
    ({}, {"exit_code": 1}, Trigger.RETRY, EndReason.USER_ERROR, True),
    ({"streak": 1}, {"exit_code": 1}, Trigger.BACK_OFF, EndReason.USER_ERROR, True),
    ({"streak": 2}, {"exit_code": 1}, Trigger.FAIL, EndReason.USER_ERROR, False),
    ({"streak": 2, "advanced": True}, {"exit_code": 1}, Trigger.RETRY, EndReason.USER_ERROR, True),
    (COMMAND, {"exit_code": 3}, Trigger.FAIL, EndReason.USER_ERROR, False),
    ({}, {"signal": 9}, Trigger.RETRY, EndReason.KILLED, True),
    ({}, {"exit_code": 1, "ranks": (rank(1, signal=9), VALUE)}, Trigger.RETRY, EndReason.KILLED, True),
    ({}, {"exit_code": 1, "ranks": (IMPORT,)}, Trigger.FAIL, EndReason.USER_ERROR, False),
    ({"advanced": True}, {"exit_code": 1, "ranks": (IMPORT,)}, Trigger.RETRY, EndReason.USER_ERROR, True),
    ({}, {"exit_code": 1, "ranks": (VALUE,)}, Trigger.RETRY, EndReason.USER_ERROR, True),
    ({"last_error": VALUE.error}, {"ranks": (VALUE,)}, Trigger.FAIL, EndReason.USER_ERROR, False),
    ({}, {"lost": True}, Trigger.RETRY, EndReason.LOST, True),
    (COMMAND, {"lost": True}, Trigger.FAIL, EndReason.LOST, False),
    ({}, {"stopped": True, "exit_code": 0}, Trigger.RETRY, EndReason.KILLED, False),
    ({"streak": 2}, {"stopped": True, "exit_code": 143}, Trigger.RETRY, EndReason.KILLED, False),
    (COMMAND, {"stopped": True, "signal": 15}, Trigger.FAIL, EndReason.KILLED, False),
    (COMMAND, {"start_error": "no room"}, Trigger.RETRY, EndReason.START_FAILED, True),
    (COMMAND, {"start_error": "no such file", "hopeless": True}, Trigger.FAIL, EndReason.START_FAILED, False),
    ({"stopping_for": EndReason.CANCELLED}, {"exit_code": 0}, Trigger.CANCEL, EndReason.CANCELLED, False),
    ({"stopping_for": EndReason.HELD}, {"signal": 9}, Trigger.HOLD, EndReason.HELD, False),
    ({"stopping_for": EndReason.TIME_LIMIT}, {"stopped": True}, Trigger.FAIL, EndReason.TIME_LIMIT, False),
    ({"stopping_for": EndReason.HANG}, {"stopped": True}, Trigger.RETRY, EndReason.HANG, True),
    ({"stopping_for": EndReason.HANG, "streak": 2}, {"stopped": True}, Trigger.FAIL, EndReason.HANG, False),
]  # fmt: skip


@pytest.mark.parametrize(("job", "end", "trigger", "reason", "counted"), VERDICTS)
def test_the_verdict_follows_from_the_evidence(
    job: dict[str, object], end: dict[str, object], trigger: Trigger, reason: EndReason, counted: bool
) -> None:
    verdict = judge(a_job(**job), AttemptEnd(ended_at=10.0, **end), jitter=0.5)  # type: ignore[arg-type]
    assert (verdict.trigger, verdict.reason, verdict.counted) == (trigger, reason, counted)


def test_the_status_is_the_first_failing_ranks_not_the_launchers() -> None:
    end = AttemptEnd(ended_at=1.0, exit_code=1, ranks=(rank(0, exit_code=0), rank(1, exit_code=42)))
    assert shell_status(end) == 42
    assert shell_status(AttemptEnd(ended_at=1.0, signal=9)) == 137
    assert shell_status(AttemptEnd(ended_at=1.0, lost=True)) is None


def test_the_first_retry_is_immediate_and_the_next_ones_wait_ever_longer() -> None:
    assert backoff(10.0, 0, 0.9) == 0.0
    assert [backoff(10.0, n, 0.5) for n in (1, 2, 3)] == [10.0, 20.0, 40.0]
    assert backoff(10.0, 30, 0.5) == LONGEST_BACKOFF
    assert backoff(10.0, 1, 0.0) == 7.5
    assert backoff(10.0, 1, 0.999) == pytest.approx(12.5, abs=0.01)
