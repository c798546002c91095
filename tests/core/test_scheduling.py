"""Who starts, who waits, and why: histories on a small machine."""

from __future__ import annotations

import datetime

import pytest

from tests.core.world import GIB, World, device, new_job
from trainforge.spec import Schedule
from trainforge.states import JobState, WaitReason
from trainforged.core import messages as m
from trainforged.core.explain import reason, why
from trainforged.core.machine import decide, next_wakeup


def say(world: World, job: int) -> str:
    return why(world.state, world.state.jobs[job], world.now, lambda other: 2400.0)


def word(world: World, job: int) -> str | None:
    return reason(world.state, world.state.jobs[job], world.now)


def test_priority_then_order_of_submission() -> None:
    world = World(gpus=1)
    running = world.submit()
    low, first, second = (world.submit(priority=p) for p in (-5, 7, 7))
    order = []
    for _ in range(3):
        world.run(next(j.id for j in world.state.jobs.values() if j.state is JobState.STARTING))
        order += [job for job in (low, first, second) if world.where(job) is JobState.STARTING]
    assert world.where(running) is JobState.SUCCEEDED
    assert order == [first, second, low]


def test_a_job_takes_all_its_gpus_at_once_or_waits() -> None:
    world = World(gpus=4)
    one = world.submit(gpu=3)
    two = world.submit(gpu=2)
    assert world.gpus(one) == ("GPU-0", "GPU-1", "GPU-2")
    assert world.where(two) is JobState.QUEUED
    assert word(world, two) == WaitReason.WAITING_FOR_GPUS
    holds = "job 1 holds GPU 0, 1, 2 (about 40 min left)"
    assert say(world, two) == f"waits for 2 GPUs: 1 free; {holds}; it starts next, in about 40 min"


def test_when_the_next_in_line_starts_is_told_where_it_can_be() -> None:
    """Given three jobs with a GPU each, of which one does not say how long it needs."""
    world = World(gpus=3)
    for _ in range(3):
        world.submit(gpu=1, cpu=1)
    two = world.submit(gpu=2, cpu=1)
    later = world.submit(gpu=1, cpu=1)
    needs = {1: 2400.0, 2: 60.0, 3: None}

    def told(job: int) -> str:
        return why(world.state, world.state.jobs[job], world.now, needs.get).rpartition("; ")[2]

    assert told(two) == "it starts next, in about 40 min", "when both have ended"
    assert told(later) == "job 3 holds GPU 2", "it may pass, or be passed"
    needs[1] = None
    assert told(two) == "job 3 holds GPU 2"
    first = world.submit(gpu=1, cpu=1, priority=1)
    assert told(first) == "it starts next, in about 1 min"
    assert told(two) == "job 3 holds GPU 2"


def test_what_is_kept_for_a_job_makes_it_the_next() -> None:
    world = World(gpus=2)
    world.submit()
    big = world.submit(gpu=2)
    passes = world.submit()
    hurried = world.submit(priority=5)
    assert world.where(passes) is JobState.STARTING
    assert say(world, hurried).endswith("; it starts next, in about 40 min")
    world.pass_time(world.state.patience)
    assert say(world, big).endswith("; it starts next, in about 40 min")
    assert say(world, hurried).endswith("(about 40 min left)")


def test_a_range_takes_what_is_free_at_each_start() -> None:
    world = World(gpus=4)
    world.submit(gpu=1, cpu=1)
    elastic = world.submit(gpu="2-8", cpu=2)
    assert len(world.gpus(elastic)) == 3
    world.run(1)
    world.run(elastic, exit_code=1)
    assert world.where(elastic) is JobState.STARTING
    assert len(world.gpus(elastic)) == 4


def test_cores_and_memory_are_counted() -> None:
    world = World(gpus=2, cpu=8, memory=10 * GIB)
    world.submit(gpu=0, cpu=6, memory=4 * GIB)
    thirsty = world.submit(gpu=0, cpu=3)
    hungry = world.submit(gpu=0, cpu=1, memory=7 * GIB)
    assert word(world, thirsty) == WaitReason.WAITING_FOR_CPU
    holds = "job 1 holds 6 cores (about 40 min left)"
    assert say(world, thirsty) == f"waits for 3 cores: 2 free; {holds}; it starts next, in about 40 min"
    assert word(world, hungry) == WaitReason.WAITING_FOR_MEMORY
    assert say(world, hungry).startswith("waits for 7.0 GiB of memory: 6.0 GiB free; job 1 holds 4.0 GiB")


def test_cores_default_to_the_share_of_the_gpus_but_for_some_that_are_spared() -> None:
    world = World(gpus=4, cpu=16)
    world.submit(gpu=2)
    world.submit(gpu=0)
    assert [world.state.leases[job].cpu for job in (1, 2)] == [7, 1]


def test_more_than_the_machine_has_is_refused_with_its_maximum() -> None:
    world = World(gpus=2, cpu=8, memory=8 * GIB)
    cases = {
        ("resources.gpu", "expected 0–2, found 4; this machine has 2 (tfctl gpus)"): {"gpu": 4},
        ("resources.cpu", "expected 1–8, found 9; this machine has 8 cores"): {"cpu": 9},
        ("resources.memory", "expected at most 8.0Gi, found 9.0Gi; this machine has 8.0Gi"): {
            "memory": 9 * GIB
        },
    }
    for (path, message), asked in cases.items():
        (reply,) = world.tell(m.Submitted(time=world.now, jobs=(new_job(), new_job(**asked))))
        assert reply == m.Refused(code="invalid_spec", path=path, message=message)
    assert world.state.jobs == {}, "a list is taken whole or not at all"


def test_a_job_that_fits_passes_one_that_does_not_but_not_for_ever() -> None:
    world = World(gpus=4)
    world.state.patience = 600.0
    small = [world.submit(gpu=2)]
    big = world.submit(gpu=4)
    small.append(world.submit(gpu=2))
    assert world.where(small[1]) is JobState.STARTING, "two GPUs would stand idle otherwise"
    for _ in range(20):  # a stream of small jobs, each 100 s, staggered
        small.append(world.submit(gpu=2))
        world.pass_time(100)
        world.run(small.pop(0))
        if world.where(big) is JobState.STARTING:
            break
    assert world.where(big) is JobState.STARTING
    assert world.now - world.state.jobs[big].submitted_at <= 600 + 300


def test_of_many_holders_a_few_are_named() -> None:
    world = World(gpus=6)
    for _ in range(4):
        world.submit()
    big = world.submit(gpu=6)
    assert say(world, big).count("holds GPU") == 4
    for _ in range(2):
        world.submit()
    assert say(world, big).endswith("; and 3 more jobs hold some; it starts next, in about 40 min")
    assert say(world, big).count("holds GPU") == 3


def test_what_is_kept_for_the_overdue_job_is_said() -> None:
    world = World(gpus=4)
    world.submit(gpu=3)
    big = world.submit(gpu=4)
    world.submit(gpu=1)
    world.pass_time(700)
    world.run(3)
    late = world.submit(gpu=1, priority=100)
    assert world.where(late) is JobState.QUEUED
    assert word(world, late) == WaitReason.WAITING_FOR_TURN
    assert say(world, late) == f"waits: what is free is kept for job {big}, which has waited longest"
    world.run(1)
    assert world.where(big) is JobState.STARTING


def test_nothing_is_kept_for_a_job_that_the_gpus_in_service_could_not_hold() -> None:
    world = World(gpus=2)
    first = world.submit(gpu=1)
    big = world.submit(gpu=2)
    other = world.submit(gpu=1)
    world.pass_time(10_000)
    world.tell(m.DrainRequested(time=world.now, uuid="GPU-1"))
    world.run(first)
    assert world.where(other) is JobState.STARTING
    assert world.where(big) is JobState.QUEUED
    assert "GPU 1 is kept back: drained" in say(world, big)


def test_begin_and_dependencies_come_before_everything_else() -> None:
    world = World(gpus=2)
    moment = datetime.datetime.fromtimestamp(world.now + 50, datetime.UTC)
    later = world.submit(begin=moment)
    parent = world.submit()
    child = world.submit(after=(parent,))
    assert word(world, later) == WaitReason.BEGIN_TIME
    assert say(world, child) == f"waits for job {parent} to succeed"
    assert next_wakeup(world.state, world.now) == world.now + 50
    world.pass_time(50)
    assert world.where(later) is JobState.STARTING
    world.run(parent)
    assert world.where(child) is JobState.STARTING


def test_jobs_that_wait_for_a_failed_job_fail_with_it() -> None:
    world = World(gpus=1)
    parent = world.submit(max_retries=0)
    child = world.submit(after=(parent,))
    grandchild = world.submit(after=(child,), hold=True)
    world.run(parent, exit_code=1)
    assert [world.where(j) for j in (parent, child, grandchild)] == [JobState.FAILED] * 3
    assert world.history[-1].message == f"job {child}, which it waited for, failed"


@pytest.mark.parametrize("exit_code", [0, 1])
def test_a_job_may_wait_for_an_end_or_for_a_failure(exit_code: int) -> None:
    world = World(gpus=1)
    parent = world.submit(max_retries=0)
    anyhow = world.submit(afterany=(parent,))
    cleanup = world.submit(gpu=0, afternotok=(parent,))
    after_cleanup = world.submit(gpu=0, after=(cleanup,))
    assert say(world, anyhow) == f"waits for job {parent} to end"
    assert say(world, cleanup) == f"waits for job {parent} to fail"
    world.run(parent, exit_code=exit_code)
    assert world.where(anyhow) is JobState.STARTING
    if exit_code:
        assert world.where(cleanup) is JobState.STARTING
        world.run(cleanup)
        assert world.where(after_cleanup) is JobState.STARTING
    else:
        assert world.where(cleanup) is JobState.CANCELLED, "that it is not needed is no failure"
        told = [event.message for event in world.history if event.job == cleanup]
        assert told[-1] == f"job {parent}, whose failure it waited for, succeeded"
        assert world.where(after_cleanup) is JobState.FAILED


def test_a_cancelled_job_has_ended_and_not_succeeded() -> None:
    world = World(gpus=1)
    world.submit()
    parent, other = world.submit(), world.submit()
    waiting = world.submit(gpu=0, afterany=(parent,), afternotok=(other,))
    assert say(world, waiting) == f"waits for job {parent} to end and job {other} to fail"
    world.tell(m.CancelRequested(time=world.now, job=parent))
    assert world.where(waiting) is JobState.QUEUED
    world.tell(m.CancelRequested(time=world.now, job=other))
    assert world.where(waiting) is JobState.STARTING


def test_waits_that_go_round_or_contradict_each_other_are_refused() -> None:
    world = World(gpus=1)
    world.submit()
    first = world.submit()
    second = world.submit(afterany=(first,))
    asked = m.UpdateRequested(time=world.now, job=first, key="k", schedule=Schedule(afternotok=(second,)))
    assert refusal(world, asked) == ("schedule.afternotok", f"job {second} waits for job {first}")
    both = m.Submitted(time=world.now, jobs=(new_job(after=(first,), afternotok=(first,)),))
    assert refusal(world, both) == ("schedule.afternotok", f"job {first} cannot both succeed and fail")
    done = world.submit(gpu=0)
    world.run(done)
    never = m.Submitted(time=world.now, jobs=(new_job(afternotok=(done,)),))
    assert refusal(world, never) == ("schedule.afternotok", f"job {done} succeeded; it will never fail")


def refusal(world: World, event: m.Event) -> tuple[str | None, str]:
    (reply,) = world.tell(event)
    assert isinstance(reply, m.Refused)
    return reply.path, reply.message


def test_a_dependency_that_cannot_come_true_is_refused() -> None:
    world = World(gpus=1)
    failed = world.submit(max_retries=0)
    world.run(failed, exit_code=1)
    waiting = world.submit(after=(), gpu=1)
    for after, message in {
        (99,): "there is no job 99",
        (failed,): f"job {failed} failed; it will never succeed",
    }.items():
        (reply,) = world.tell(m.Submitted(time=world.now, jobs=(new_job(after=after),)))
        assert isinstance(reply, m.Refused)
        assert (reply.path, reply.message) == ("schedule.after", message)
    assert world.where(waiting) is JobState.STARTING


def test_a_foreign_or_missing_gpu_is_not_given_out() -> None:
    world = World(gpus=2)
    foreign = (device(0, foreign="python (pid 7, bob) uses 10.2 GiB"), device(1, missing="lost"))
    world.tell(m.DevicesObserved(time=world.now, devices=foreign))
    job = world.submit()
    assert "GPU 0 is kept back: python (pid 7, bob) uses 10.2 GiB" in say(world, job)
    world.tell(m.DevicesObserved(time=world.now, devices=(device(0), device(1, missing="lost"))))
    assert world.gpus(job) == ("GPU-0",)


def test_a_pass_over_a_full_machine_and_a_long_queue_is_short() -> None:
    world = World(gpus=1)
    world.submit()
    many = tuple(new_job(cpu=1 + i % 16) for i in range(5000))
    world.tell(m.Submitted(time=world.now, jobs=many))
    decision = decide(world.state, [m.TimePassed(time=world.now)])
    assert decision.changes == ()


def test_a_gpu_that_left_the_machine_is_forgotten_once_nobody_holds_it() -> None:
    world = World(gpus=2)
    job = world.submit(gpu=2)
    world.tell(m.DevicesObserved(time=world.now, devices=(device(0),)))
    assert set(world.state.devices) == {"GPU-0", "GPU-1"}
    world.run(job)
    world.tell(m.DevicesObserved(time=world.now, devices=(device(0),)))
    assert set(world.state.devices) == {"GPU-0"}
    (reply,) = world.tell(m.Submitted(time=world.now, jobs=(new_job(gpu=2),)))
    assert isinstance(reply, m.Refused)
