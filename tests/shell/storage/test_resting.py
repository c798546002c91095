"""Rests of a thread with much to do."""

from __future__ import annotations

from trainforged.storage.resting import REST, WORK, Rests


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_it_rests_after_each_piece_of_work_and_not_before() -> None:
    clock = Clock()
    rests = Rests(clock, clock.sleep)
    rests.rest()
    assert clock.slept == []
    for _ in range(4):
        clock.now += WORK * 0.75
        rests.rest()
    assert clock.slept == [REST, REST]


def test_what_was_before_the_beginning_is_no_work() -> None:
    clock = Clock()
    rests = Rests(clock, clock.sleep)
    clock.now += 10
    rests.begin()
    rests.rest()
    assert clock.slept == []


def test_nobody_rests_while_somebody_waits() -> None:
    clock = Clock()
    rests = Rests(clock, clock.sleep)
    with rests.hurry(), rests.hurry():
        clock.now += WORK
        rests.rest()
    assert clock.slept == []
    clock.now += WORK
    rests.rest()
    assert clock.slept == [REST]
