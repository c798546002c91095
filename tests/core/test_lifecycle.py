"""The lifecycle is a table."""

from __future__ import annotations

import itertools

import pytest

from trainforge.states import ENDED, LIVE, JobState
from trainforged.core.lifecycle import TABLE, IllegalMove, Trigger, move

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
