"""Events that come together are one decision, also where they concern each other."""

from __future__ import annotations

import pytest

from tests.core.world import World, new_job
from trainforge.states import JobState
from trainforged.core import messages as m


@pytest.mark.parametrize("release", ["before", "after"])
def test_two_events_in_one_batch_are_one_decision(release: str) -> None:
    world = World(gpus=1)
    job, other = world.submit(), world.submit()
    world.start(job)
    ended = m.AttemptEnded(
        time=world.now, job=job, attempt=1, end=m.AttemptEnd(ended_at=world.now, exit_code=0)
    )
    released = m.LeaseReleased(time=world.now, job=job, attempt=1)
    if release == "after":
        world.tell(ended, released)
        assert world.where(other) is JobState.STARTING
    else:
        replies = world.tell(released, ended)
        assert isinstance(replies[0], m.Refused)
        assert world.where(other) is JobState.QUEUED


@pytest.mark.parametrize("first", ["submission", "end"])
@pytest.mark.parametrize("exit_code", [0, 1])
def test_a_job_may_come_in_the_batch_in_which_what_it_waits_for_ends(first: str, exit_code: int) -> None:
    world = World(gpus=1)
    other = world.submit(max_retries=0)
    world.start(other)
    end = m.AttemptEnd(ended_at=world.now, exit_code=exit_code)
    ended = m.AttemptEnded(time=world.now, job=other, attempt=1, end=end)
    submitted = m.Submitted(time=world.now, jobs=(new_job(gpu=0, after=(other,)),))
    if first == "submission":
        accepted, _ = world.tell(submitted, ended)
    else:
        _, accepted = world.tell(ended, submitted)
    if exit_code == 0:
        assert world.where(other + 1) is JobState.STARTING
    elif first == "submission":
        assert world.where(other + 1) is JobState.FAILED
        assert world.happened(other + 1)[-1] == "job_failed"
    else:
        assert isinstance(accepted, m.Refused), "it would never succeed"


def test_a_job_may_begin_to_wait_in_the_batch_in_which_the_other_fails() -> None:
    world = World(gpus=1)
    other, changed = world.submit(hold=True), world.submit(hold=True)
    schedule = type(world.state.jobs[changed].schedule)(after=(other,))
    world.tell(
        m.UpdateRequested(time=world.now, job=changed, key="k", schedule=schedule),
        m.CancelRequested(time=world.now, job=other),
    )
    assert world.where(changed) is JobState.FAILED


def test_a_job_is_removed_once_also_in_one_batch_and_not_while_one_waits_that_came_in_it() -> None:
    world = World(gpus=1)
    job = world.submit(hold=True)
    cancelled = m.CancelRequested(time=world.now, job=job)
    remove = m.RemoveRequested(time=world.now, job=job)
    _, once, twice = world.tell(cancelled, remove, remove)
    assert once == m.Accepted(jobs=(job,))
    assert twice == m.Refused(code="no_such_job", message=f"there is no job {job}")
    assert world.effects == [m.RemoveFiles(job=job, attempt=0)]
    done = world.submit()
    world.run(done)
    waits = m.Submitted(time=world.now, jobs=(new_job(after=(done,)),))
    _, refused = world.tell(waits, m.RemoveRequested(time=world.now, job=done))
    assert refused == m.Refused(code="conflict", message=f"job {done + 1} waits for job {done}")


def test_a_long_chain_of_jobs_fails_with_its_first() -> None:
    world = World(gpus=1)
    first = last = world.submit(hold=True)
    for _ in range(2000):
        last = world.submit(after=(last,))
    world.tell(m.CancelRequested(time=world.now, job=first))
    assert world.where(last) is JobState.FAILED
    assert not world.state.jobs
