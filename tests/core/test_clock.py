"""The machine's clock is set: what was to last some seconds lasts them, what was to be at a time is at it."""

from __future__ import annotations

import datetime

import pytest

from tests.core.world import World
from trainforge.states import JobState
from trainforged.core import messages as m
from trainforged.core.machine import next_wakeup

DAY = 86400.0
STEPS = pytest.mark.parametrize("by", [DAY, -DAY])


def at_noon() -> World:
    world = World(gpus=1)
    world.pass_time(365 * DAY)
    return world


def set_clock(world: World, by: float) -> None:
    world.now += by
    world.tell(m.ClockSet(time=world.now, by=by))


@STEPS
def test_a_backoff_stays_as_long_as_it_was(by: float) -> None:
    world = at_noon()
    job = world.submit(max_retries=5, backoff=100.0)
    world.run(job, exit_code=1)
    world.run(job, exit_code=2)
    assert world.where(job) is JobState.BACKOFF
    set_clock(world, by)
    assert world.where(job) is JobState.BACKOFF
    assert next_wakeup(world.state, world.now) == pytest.approx(world.now + 100)
    world.pass_time(101)
    assert world.where(job) is JobState.STARTING


@STEPS
def test_a_time_limit_counts_seconds_that_passed(by: float) -> None:
    world = at_noon()
    job = world.submit(time_limit=100.0)
    world.start(job)
    world.pass_time(60)
    set_clock(world, by)
    world.pass_time(39)
    assert world.where(job) is JobState.RUNNING
    world.pass_time(2)
    assert world.where(job) is JobState.STOPPING


def test_what_an_attempt_took_is_what_its_shim_measured() -> None:
    world = at_noon()
    job = world.submit(time_limit=100.0)
    world.start(job)
    world.now += DAY  # set while no daemon was there to see it
    world.end(job, lost=True, started_at=world.now - DAY, ran=30.0)
    assert world.state.jobs[job].spent == 30.0


def test_a_time_that_somebody_named_stays() -> None:
    world = at_noon()
    begin = datetime.datetime.fromtimestamp(world.now + DAY, datetime.UTC)
    job = world.submit(begin=begin)
    set_clock(world, -DAY)
    world.pass_time(DAY + 1)
    assert world.where(job) is JobState.QUEUED
    set_clock(world, DAY)
    assert world.where(job) is JobState.STARTING


def test_how_long_a_job_was_passed_stays() -> None:
    world = World(gpus=2)
    world.submit()
    large = world.submit(gpu=2)
    world.submit()
    assert world.state.jobs[large].passed_since == world.now
    world.pass_time(30)
    set_clock(world, DAY)
    assert world.state.jobs[large].passed_since == world.now - 30


@pytest.mark.parametrize(("by", "words"), [(DAY, "forward by 86400 s"), (-5.0, "back by 5 s")])
def test_it_is_told(by: float, words: str) -> None:
    world = at_noon()
    set_clock(world, by)
    assert world.history[-1].message == f"the machine's clock was set {words}"
