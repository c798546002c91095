"""How attempts ended, what is said against whom, and what follows."""

from __future__ import annotations

import pytest

from tests.core.world import World, device
from trainforge.states import EndReason, JobState
from trainforged.core import messages as m
from trainforged.core.causes import tail
from trainforged.core.explain import why


def test_to_reach_the_same_place_again_is_no_progress() -> None:
    world = World(gpus=1)
    job = world.submit(max_retries=2, backoff=10.0)
    for _ in range(3):
        if world.where(job) is JobState.BACKOFF:
            world.pass_time(600.0)
        world.start(job)
        attempt = world.state.jobs[job].attempt
        world.tell(m.Progressed(time=world.now, job=job, attempt=attempt, position=3.0))
        world.end(job, exit_code=1)
    assert world.where(job) is JobState.FAILED


def test_what_ended_while_nobody_looked_ended_when_it_did() -> None:
    world = World()
    job = world.submit()
    world.start(job)
    world.restart()
    world.now += 600
    ended_at = world.now - 500
    end = m.AttemptEnd(ended_at=ended_at, exit_code=0)
    world.tell(m.AttemptEnded(time=world.now, job=job, attempt=1, end=end, jitter=0.5))
    assert world.state.jobs[job].ended_at == ended_at
    assert world.history[-1].time == world.now, "what is told is told now"


@pytest.mark.parametrize(
    ("how", "evidence"),
    [
        ({"exit_code": 3}, "ended with 3"),
        ({"signal": 9}, "was killed by signal 9 (SIGKILL)"),
        ({"start_error": "pip failed\nERROR: no such thing\n", "hopeless": True}, "pip failed …"),
        ({"ranks": (m.RankEnd(rank=1, exit_code=1, error="Bad: one\ntwo"),)}, "rank 1 Bad: one …"),
    ],
)
def test_the_evidence_is_kept_in_one_line(how: dict[str, object], evidence: str) -> None:
    world = World()
    job = world.submit(max_retries=0, script=False)
    world.start(job)
    world.end(job, release=False, **how)  # type: ignore[arg-type]
    ended = world.state.jobs[job]
    assert ended.evidence == evidence
    assert why(world.state, ended, world.now, lambda _: None).endswith(f": {evidence}")


def test_a_job_that_failed_for_another_names_it() -> None:
    world = World()
    first = world.submit(max_retries=0)
    second = world.submit(after=(first,))
    world.run(first, exit_code=1)
    assert world.where(second) is JobState.FAILED
    said = {line.job: line.message for line in world.history if line.type == "job_failed"}
    assert said[second] == f"job {first}, which it waited for, failed"


def test_a_job_that_found_the_disk_full_waits_for_room() -> None:
    world = World()
    job = world.submit()
    world.start(job)
    world.tell(m.RoomChanged(time=world.now, room=False))
    full = "OSError: [Errno 28] No space left on device"
    world.end(job, ranks=(m.RankEnd(rank=0, exit_code=1, error=full),))
    world.pass_time(3600)
    held = world.state.jobs[job]
    assert (held.state, held.retries) == (JobState.BACKOFF, 0)
    said = why(world.state, held, world.now, lambda _: None)
    assert said == f"waits for room on the disk: rank 0 {full}"
    world.tell(m.RoomChanged(time=world.now, room=True))
    assert world.where(job) is JobState.STARTING


def test_a_faulty_gpu_is_set_aside_and_the_job_goes_on_elsewhere() -> None:
    world = World(gpus=2)
    job = world.submit(max_retries=0)
    world.start(job)
    world.end(job, exit_code=1, faults={"GPU-0": "XID 79: the GPU has fallen off the bus"})
    assert world.state.devices["GPU-0"].set_aside == "XID 79: the GPU has fallen off the bus"
    world.pass_time(20.0)
    assert world.gpus(job) == ("GPU-1",)
    assert world.state.jobs[job].retries == 0


@pytest.mark.parametrize("worse", [False, True])
def test_a_gpu_whose_memory_came_back_late_returns_unless_more_speaks_against_it(
    worse: bool,
) -> None:
    world = World(gpus=1)
    late = "30 s after its job ended: 8.8 GiB of its memory are in use, 0 MiB of it by others"
    world.tell(m.GpuFaulted(time=world.now, uuid="GPU-0", message=late))
    if worse:
        world.tell(m.GpuFaulted(time=world.now, uuid="GPU-0", message="XID 79"))
    world.tell(m.GpuCleared(time=world.now, uuid="GPU-0", reason=late))
    assert world.state.devices["GPU-0"].set_aside == ("XID 79" if worse else None)


def test_what_was_reported_last_counts_when_the_end_is_judged() -> None:
    """Progress is told to the core now and then; to fail at the same step is to get nowhere."""
    world = World(gpus=1)
    job = world.submit(max_retries=1, backoff=1.0)
    for _ in range(2):
        world.start(job)
        world.tell(m.Progressed(time=world.now, job=job, attempt=world.state.jobs[job].attempt, position=3.0))
        world.end(job, exit_code=1, position=49.0)
    assert world.where(job) is JobState.FAILED


def test_a_gpu_that_faults_under_a_job_is_what_it_failed_of() -> None:
    world = World(gpus=2)
    job = world.submit(max_retries=0)
    world.start(job)
    world.tell(m.GpuFaulted(time=world.now, uuid="GPU-0", message="XID 79: it has fallen off the bus"))
    assert world.gpus(job) == ("GPU-0",), "who holds it keeps it"
    world.end(job, exit_code=1)
    assert world.attempts[job, 1].reason is EndReason.GPU_FAULT
    world.pass_time(20.0)
    assert world.gpus(job) == ("GPU-1",)


def test_memory_that_somebody_else_took_is_not_held_against_the_job() -> None:
    world = World(gpus=1)
    job = world.submit(max_retries=0)
    world.start(job)
    bob = "python (pid 7, bob) uses it"
    world.tell(m.DevicesObserved(time=world.now, devices=(device(0, foreign=bob),)))
    world.end(
        job, ranks=(m.RankEnd(rank=0, exit_code=1, error="torch.OutOfMemoryError: CUDA out of memory"),)
    )
    assert world.attempts[job, 1].reason is EndReason.GPU_MEMORY_TAKEN
    world.pass_time(3600.0)
    assert world.where(job) is JobState.QUEUED, "until there is room"
    world.tell(m.DevicesObserved(time=world.now, devices=(device(0),)))
    assert (world.where(job), world.state.jobs[job].retries) == (JobState.STARTING, 0)


def test_what_one_rank_wrote_stands_for_those_that_stopped_with_it() -> None:
    silent, speaks = m.RankEnd(rank=1, exit_code=1), m.RankEnd(rank=0, exit_code=1)
    raised = m.RankEnd(rank=1, exit_code=1, error_type="ValueError", error="ValueError: 7")
    said = {0: "the loss is nan at step 4", 1: ""}
    assert tail(m.AttemptEnd(ended_at=1.0, ranks=(silent, speaks), tails=said)) == said[0]
    assert tail(m.AttemptEnd(ended_at=1.0, ranks=(silent, speaks), tails=said | {1: "own"})) == "own"
    assert tail(m.AttemptEnd(ended_at=1.0, ranks=(raised, speaks), tails={0: "other"})) is None
    assert tail(m.AttemptEnd(ended_at=1.0, ranks=(silent,), tails={1: ""})) is None
