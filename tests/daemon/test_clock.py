"""The engine under a clock that people set: a clock of the test's own in place of the machine's."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.core.world import new_job
from trainforge.spec import JobSpec, Project, Resources, Training
from trainforge.states import JobState
from trainforged.core import messages as m
from trainforged.core.state import State
from trainforged.daemon import engine as engine_module
from trainforged.daemon.engine import Engine
from trainforged.daemon.watching.clock import ClockSteps
from trainforged.storage.jobs.store import JobStore, Submission

NOON = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
HOUR = 3600.0


class Clocks:
    """`wall` may be set; `steady` goes on. No second passes by itself."""

    def __init__(self) -> None:
        self.wall, self.steady = NOON.timestamp(), 500.0

    def set(self, by: float) -> None:
        self.wall += by

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


class Scene:
    def __init__(self, engine: Engine, clocks: Clocks) -> None:
        self.engine, self.clocks = engine, clocks

    async def submit(self, **fields: object) -> int:
        job = new_job(gpu=0, cpu=1, **fields)
        spec = JobSpec(
            project=Project(name="job"), training=Training(command=["true"]), resources=Resources(gpu=0)
        )
        submission = Submission(spec=spec, request_id=job.key, workdir="/")
        event = m.Submitted(time=self.clocks.wall, jobs=(job,))
        reply = await self.engine.ask(event, {job.key: submission})
        assert isinstance(reply, m.Accepted), reply
        return reply.jobs[0]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while True:
                if condition():
                    return
                await asyncio.sleep(0.005)

    def where(self, job: int) -> JobState:
        return self.engine.state.jobs[job].state


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(engine_module, "LONGEST_SLEEP", 0.01)
    clocks = Clocks()
    with contextlib.closing(JobStore(tmp_path / "trainforge.db").open()) as store:
        engine = Engine(
            State(), store, perform=lambda effect: None, publish=lambda events: None,
            clock=lambda: clocks.wall, steady=lambda: clocks.steady,
        )  # fmt: skip
        machine = m.Machine(cpu=4, memory=1 << 30)
        await engine.start(m.DaemonStarted(time=clocks.wall, machine=machine))
        running = asyncio.create_task(engine.run())
        yield Scene(engine, clocks)
        engine.close()
        await running


def hours(number: float) -> datetime.datetime:
    return NOON + datetime.timedelta(hours=number)


async def test_a_begin_time_that_a_clock_is_set_beyond_is_seen_without_any_event(scene: Scene) -> None:
    job = await scene.submit(begin=hours(1))
    scene.clocks.set(2 * HOUR)
    await scene.until(lambda: scene.where(job) is JobState.STARTING)


async def test_after_a_clock_was_set_back_times_come_all_the_same(scene: Scene) -> None:
    scene.clocks.pass_time(5 * HOUR)
    early = await scene.submit(begin=hours(5.5))
    scene.clocks.pass_time(HOUR)
    await scene.until(lambda: scene.where(early) is JobState.STARTING)  # so time was told at six hours
    scene.clocks.set(-5 * HOUR)
    job = await scene.submit(begin=hours(2), key="other")
    scene.clocks.pass_time(2 * HOUR)
    await scene.until(lambda: scene.where(job) is JobState.STARTING)


async def test_a_time_limit_does_not_end_a_job_when_the_clock_is_set_forward(scene: Scene) -> None:
    job = await scene.submit(time_limit=HOUR)
    scene.engine.tell(m.AttemptStarted(time=scene.clocks.wall, job=job, attempt=1))
    await scene.until(lambda: scene.where(job) is JobState.RUNNING)
    scene.clocks.set(24 * HOUR)
    started = hours(24).timestamp()
    await scene.until(lambda: scene.engine.state.jobs[job].attempt_started_at == started)
    assert scene.where(job) is JobState.RUNNING
    scene.clocks.pass_time(HOUR + 1)
    await scene.until(lambda: scene.where(job) is JobState.STOPPING)


def test_a_step_is_told_once_and_slow_correction_is_none() -> None:
    clocks = Clocks()
    steps = ClockSteps(lambda: clocks.wall, lambda: clocks.steady)
    clocks.pass_time(1000)
    clocks.set(0.5)
    assert steps.look() == 0.0
    clocks.set(-60)
    assert steps.look() == pytest.approx(-59.5)
    assert steps.look() == 0.0
