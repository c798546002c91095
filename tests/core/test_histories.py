"""Whole lives of jobs, and what each step orders."""

from __future__ import annotations

from tests.core.world import World
from trainforge.states import EndReason, JobState
from trainforged.core import messages as m
from trainforged.core.machine import next_wakeup


def test_a_job_from_submission_to_success() -> None:
    world = World(gpus=1, cpu=4)
    job = world.submit(gpu=1)
    assert world.effects == [m.StartAttempt(job=job, attempt=1, gpus=("GPU-0",), cpu=3, memory=0)]
    world.start(job)
    world.now += 30
    world.end(job, release=False, exit_code=0)
    assert world.effects == [m.ReleaseLease(job=job, attempt=1, gpus=("GPU-0",))]
    assert world.gpus(job) == ("GPU-0",), "until nothing of the attempt is left"
    world.release(job, 1)
    assert world.where(job) is JobState.SUCCEEDED
    assert world.gpus(job) == ()
    assert world.happened(job) == ["job_submitted", "attempt_started", "attempt_ended", "job_succeeded"]
    attempt = world.attempts[job, 1]
    assert (attempt.started_at, attempt.ended_at, attempt.reason) == (1000.0, 1030.0, EndReason.SUCCEEDED)


def test_what_is_held_is_not_held_again_and_nothing_else_is_released() -> None:
    world = World(gpus=1)
    running, held = world.submit(gpu=1), world.submit(gpu=1)
    world.start(running)
    world.tell(m.HoldRequested(time=world.now, job=held))
    (again,) = world.tell(m.HoldRequested(time=world.now, job=held))
    assert again == m.Refused(code="conflict", message=f"job {held} is held already (tfctl release {held})")
    (released,) = world.tell(m.ReleaseRequested(time=world.now, job=running))
    assert released == m.Refused(code="conflict", message=f"job {running} is running, not held")
    assert (world.where(held), world.where(running)) == (JobState.HELD, JobState.RUNNING)


def test_a_failed_attempt_is_followed_by_one_on_a_fresh_lease() -> None:
    world = World(gpus=2)
    job = world.submit(gpu=1)
    world.start(job)
    world.end(job, release=False, signal=9)
    assert world.where(job) is JobState.QUEUED, "not before the old attempt is gone"
    world.release(job, 1, stuck={"GPU-0": "9.0 GiB did not come back"})
    assert world.state.devices["GPU-0"].set_aside == "9.0 GiB did not come back"
    assert world.effects == [m.StartAttempt(job=job, attempt=2, gpus=("GPU-1",), cpu=7, memory=0)]
    assert world.state.jobs[job].retries == 1


def test_a_crash_loop_ends_and_progress_resets_the_count() -> None:
    world = World(gpus=1)
    job = world.submit(max_retries=2, backoff=10.0)
    for attempt in range(1, 6):
        world.start(job)
        world.now += 1
        world.progress(job)
        world.end(job, exit_code=1)
        assert world.state.jobs[job].attempt == attempt + 1, "immediate: it had got on"
    world.run(job, exit_code=1)
    assert world.where(job) is JobState.BACKOFF
    assert next_wakeup(world.state, 0.0) == world.now + 10.0
    world.pass_time(10.0)
    world.run(job, exit_code=1)
    assert world.where(job) is JobState.FAILED
    assert world.attempts[job, 7].reason is EndReason.USER_ERROR


def test_cancel_at_every_moment() -> None:
    world = World(gpus=1)
    first, queued = world.submit(), world.submit()
    held = world.submit(hold=True)
    for job in (queued, held):
        world.tell(m.CancelRequested(time=world.now, job=job))
        assert world.where(job) is JobState.CANCELLED
    world.tell(m.CancelRequested(time=world.now, job=first))
    assert world.effects == [m.StopAttempt(job=first, attempt=1, grace=60.0)]
    world.start(first)
    assert world.where(first) is JobState.STOPPING
    world.tell(m.CancelRequested(time=world.now, job=first, now=True))
    assert world.effects == [m.StopAttempt(job=first, attempt=1, grace=0.0)]
    world.end(first, signal=9)
    assert world.where(first) is JobState.CANCELLED
    (reply,) = world.tell(m.CancelRequested(time=world.now, job=first))
    assert reply == m.Refused(code="conflict", message="job 1 has ended: cancelled")


def test_a_job_in_backoff_can_be_cancelled_or_held() -> None:
    world = World(gpus=1)
    for order, after in ((m.CancelRequested, JobState.CANCELLED), (m.HoldRequested, JobState.HELD)):
        job = world.submit(max_retries=5)
        world.run(job, exit_code=1)
        world.run(job, exit_code=1)
        assert world.where(job) is JobState.BACKOFF
        world.tell(order(time=world.now, job=job))
        assert world.where(job) is after


def test_hold_of_a_running_job_frees_its_gpus_and_release_goes_on() -> None:
    world = World(gpus=1)
    job, other = world.submit(), world.submit()
    world.start(job)
    world.tell(m.HoldRequested(time=world.now, job=job))
    world.end(job, stopped=True, exit_code=0)
    assert world.where(job) is JobState.HELD
    assert world.where(other) is JobState.STARTING
    world.run(other)
    world.tell(m.ReleaseRequested(time=world.now, job=job))
    assert world.state.jobs[job].attempt == 2
    assert world.state.jobs[job].retries == 0


def test_the_time_limit_counts_all_attempts() -> None:
    world = World(gpus=1)
    job = world.submit(time_limit=100.0, max_retries=3)
    world.start(job)
    world.now += 60
    world.end(job, signal=9)
    world.start(job)
    assert next_wakeup(world.state, 0.0) == world.now + 40
    world.pass_time(40)
    assert world.effects == [m.StopAttempt(job=job, attempt=2, grace=60.0)]
    world.end(job, stopped=True)
    assert world.where(job) is JobState.FAILED
    assert world.attempts[job, 2].reason is EndReason.TIME_LIMIT


def test_a_job_without_progress_is_stopped_and_continued() -> None:
    world = World(gpus=1)
    job = world.submit(max_retries=1)
    for attempt in (1, 2):
        world.start(job)
        world.tell(m.HangFound(time=world.now, job=job, attempt=attempt, message="silent for 12 min"))
        assert world.effects == [m.StopAttempt(job=job, attempt=attempt, grace=60.0)]
        world.tell(m.HangFound(time=world.now, job=job, attempt=attempt, message="again"))
        assert world.effects == [], "it is being stopped already"
        world.end(job, release=False, stopped=True)
        assert world.attempts[job, attempt].reason is EndReason.HANG
        assert world.state.jobs[job].evidence == "silent for 12 min"
        world.release(job, attempt)
    assert world.where(job) is JobState.FAILED


def test_a_new_daemon_orders_again_what_was_not_yet_obeyed() -> None:
    world = World(gpus=4, cpu=8)
    starting, running, stopping, releasing = (world.submit() for _ in range(4))
    for job in (running, stopping, releasing):
        world.start(job)
    world.tell(m.CancelRequested(time=world.now, job=stopping))
    world.end(releasing, release=False, exit_code=0)
    effects = world.restart()
    assert {(type(e).__name__, e.job) for e in effects} == {
        ("StartAttempt", starting),
        ("AdoptAttempt", running),
        ("AdoptAttempt", stopping),
        ("StopAttempt", stopping),
        ("ReleaseLease", releasing),
    }
    assert world.where(running) is JobState.UNKNOWN
    world.start(running)
    assert world.where(running) is JobState.RUNNING
    assert world.happened(running).count("attempt_started") == 1


def test_what_is_said_of_an_attempt_that_is_over_changes_nothing() -> None:
    world = World(gpus=1)
    job = world.submit()
    world.run(job, signal=9)
    before = world.state.jobs[job]
    for event in (
        m.AttemptStarted(time=world.now, job=job, attempt=1),
        m.Progressed(time=world.now, job=job, attempt=1),
        m.AttemptEnded(time=world.now, job=job, attempt=1, end=m.AttemptEnd(ended_at=1.0)),
        m.LeaseReleased(time=world.now, job=job, attempt=1),
    ):
        (reply,) = world.tell(event)
        assert isinstance(reply, m.Refused)
    assert world.state.jobs[job] == before


def test_an_update_moves_a_waiting_job_and_cannot_resize_a_running_one() -> None:
    world = World(gpus=1)
    running, one, two = world.submit(), world.submit(), world.submit()
    schedule = world.state.jobs[two].schedule
    ahead = type(schedule)(priority=9)
    world.tell(m.UpdateRequested(time=world.now, job=two, key="k2", schedule=ahead))
    (reply,) = world.tell(
        m.UpdateRequested(
            time=world.now, job=running, key="k3", resources=type(world.state.jobs[one].resources)(gpu=0)
        )
    )
    assert isinstance(reply, m.Refused)
    assert reply.path == "resources"
    world.run(running)
    assert world.where(two) is JobState.STARTING


def test_only_an_ended_job_that_nobody_waits_for_is_removed() -> None:
    world = World(gpus=1)
    job = world.submit()
    (reply,) = world.tell(m.RemoveRequested(time=world.now, job=job))
    assert isinstance(reply, m.Refused)
    child = world.submit(after=(job,))
    world.run(job)
    (reply,) = world.tell(m.RemoveRequested(time=world.now, job=job))
    assert reply == m.Refused(code="conflict", message=f"job {child} waits for job {job}")
    world.run(child)
    world.tell(m.RemoveRequested(time=world.now, job=job))
    assert world.effects == [m.RemoveFiles(job=job, attempt=0)]
    assert job not in world.state.outcomes
    assert world.submit() == child + 1, "numbers are not given out again"


def test_an_ended_job_is_ended_also_while_its_lease_is_released() -> None:
    world = World(gpus=1)
    job = world.submit()
    world.start(job)
    world.end(job, release=False, exit_code=0)
    for request in (m.CancelRequested, m.HoldRequested, m.ReleaseRequested):
        (reply,) = world.tell(request(time=world.now, job=job))
        assert reply == m.Refused(code="conflict", message="job 1 has ended: succeeded")
