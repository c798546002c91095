"""The ladder of an attempt's end, as decisions."""

from __future__ import annotations

from trainforged.execution.shim.course import (
    KILL,
    KILL_MAIN,
    LINGER,
    PATIENCE,
    TERM_ALL,
    TERM_MAIN,
    Course,
)


def test_an_order_asks_the_main_process_then_what_is_left_then_kills() -> None:
    course = Course()
    assert course.order(100, grace=10) == TERM_MAIN
    assert course.due(109.9) is None
    assert course.main_ended(105, success=False) == TERM_ALL
    assert course.due(109.9) is None
    assert course.due(110) == KILL
    assert course.due(120) is None, "killing goes on by itself"
    assert course.ordered


def test_a_second_order_neither_repeats_nor_prolongs() -> None:
    course = Course()
    course.order(100, grace=10)
    assert course.order(105, grace=50) is None
    assert course.due(110) == KILL


def test_an_order_for_now_kills_also_in_the_grace_of_another() -> None:
    course = Course()
    course.order(100, grace=10)
    assert course.order_now() == KILL
    assert course.order_now() is None


def test_success_leaves_helpers_a_moment() -> None:
    course = Course()
    assert course.main_ended(100, success=True) == TERM_ALL
    assert course.due(100 + LINGER - 0.1) is None
    assert course.due(100 + LINGER) == KILL
    assert not course.ordered


def test_failure_kills_what_is_left_at_once() -> None:
    course = Course()
    assert course.main_ended(100, success=False) == KILL
    assert course.deadline is None


def test_a_dead_rank_takes_the_others_with_it() -> None:
    course = Course()
    course.rank_failed(100)
    assert course.due(100 + PATIENCE - 0.1) is None
    assert course.due(100 + PATIENCE) == KILL


def test_a_rank_that_is_killed_takes_the_others_with_it_at_once() -> None:
    """Nothing that they might say of the peer that they lost would say more."""
    course = Course()
    assert course.rank_failed(100, of_itself=True) == KILL
    assert course.rank_failed(100, of_itself=True) is None
    stopping = Course()
    stopping.order(100, grace=60)
    assert stopping.rank_failed(101, of_itself=True) is None, "who saves is not cut short"


def test_what_follows_a_failure_is_no_stop() -> None:
    course = Course()
    course.rank_failed(100)
    assert course.order(100.1, grace=60) is None
    assert not course.ordered
    assert course.due(100 + PATIENCE) == KILL, "the grace of the order does not prolong it"


def test_an_order_after_the_end_is_no_stop() -> None:
    course = Course()
    course.main_ended(100, success=True)
    assert course.order(101, grace=60) is None
    assert not course.ordered
    assert course.order_now() == KILL, "but what is left can be hurried"
    assert not course.ordered


def test_a_rank_that_fails_while_stopping_changes_nothing() -> None:
    course = Course()
    course.order(100, grace=10)
    course.rank_failed(101)
    assert course.due(109) is None


def test_a_launcher_whose_ranks_have_stopped_is_not_waited_for() -> None:
    course = Course()
    assert course.ranks_over() is None, "unordered it has the last word"
    course.order(100, grace=10)
    assert course.ranks_over() == KILL_MAIN
    assert course.main_ended(100.1, success=False) == TERM_ALL
    assert course.ranks_over() is None
