"""Long random histories: whatever happens in whatever order, the invariants hold and no job is stuck."""

from __future__ import annotations

import datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.core.world import GIB, World, check_invariants, device, new_job
from trainforge.states import JobState
from trainforged.core import messages as m
from trainforged.core.machine import decide, next_wakeup

JOBS = st.fixed_dictionaries(
    {
        "gpu": st.sampled_from([0, 1, 2, 3, "1-3"]),
        "cpu": st.sampled_from([None, 1, 4]),
        "memory": st.sampled_from([None, 2 * GIB]),
        "priority": st.integers(-2, 2),
        "max_retries": st.integers(0, 2),
        "time_limit": st.sampled_from([None, 50.0]),
        "hold": st.booleans(),
    }
)
ENDS = st.sampled_from(
    [{"exit_code": 0}, {"exit_code": 1}, {"signal": 9}, {"lost": True}, {"stopped": True, "exit_code": 0},
     {"start_error": "no room"}]
)  # fmt: skip
REQUESTS = st.sampled_from([m.CancelRequested, m.HoldRequested, m.ReleaseRequested, m.RemoveRequested])


class Histories(RuleBasedStateMachine):
    """Every rule may be told of any job and attempt, current or not; orders may be answered late."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(gpus=3, cpu=8, memory=8 * GIB)
        self.submitted = 0

    def _job(self, pick: int) -> int:
        return 1 + pick % max(1, self.submitted)

    def _attempt(self, job: int) -> int:
        known = self.world.state.jobs.get(job)
        return known.attempt if known is not None else 1

    @rule(
        jobs=st.lists(JOBS, min_size=1, max_size=3),
        after=st.integers(0, 50),
        depend=st.booleans(),
        begin=st.sampled_from([None, None, -10.0, 40.0]),
    )
    def submit(self, jobs: list[dict[str, object]], after: int, depend: bool, begin: float | None) -> None:
        extra: dict[str, object] = {"after": (self._job(after),)} if depend else {}
        if begin is not None:
            extra["begin"] = datetime.datetime.fromtimestamp(self.world.now + begin, datetime.UTC)
        new = tuple(new_job(**fields, **extra) for fields in jobs)
        (reply,) = self.world.tell(m.Submitted(time=self.world.now, jobs=new))
        if isinstance(reply, m.Accepted):
            self.submitted += len(jobs)
            assert reply.jobs[-1] == self.submitted, "numbers grow by one and are never given twice"

    @precondition(lambda self: self.submitted)
    @rule(pick=st.integers(0, 50))
    def attempt_starts(self, pick: int) -> None:
        job = self._job(pick)
        self.world.tell(m.AttemptStarted(time=self.world.now, job=job, attempt=self._attempt(job)))

    @precondition(lambda self: self.submitted)
    @rule(pick=st.integers(0, 50))
    def progresses(self, pick: int) -> None:
        job = self._job(pick)
        self.world.tell(m.Progressed(time=self.world.now, job=job, attempt=self._attempt(job)))

    @precondition(lambda self: self.submitted)
    @rule(pick=st.integers(0, 50))
    def a_hang_is_found(self, pick: int) -> None:
        job, now = self._job(pick), self.world.now
        self.world.tell(m.HangFound(time=now, job=job, attempt=self._attempt(job), message="silent"))

    @rule(room=st.booleans())
    def the_disk_fills_or_empties(self, room: bool) -> None:
        self.world.tell(m.RoomChanged(time=self.world.now, room=room))

    @precondition(lambda self: self.submitted)
    @rule(pick=st.integers(0, 50), how=ENDS, jitter=st.floats(0, 0.99))
    def attempt_ends(self, pick: int, how: dict[str, object], jitter: float) -> None:
        job = self._job(pick)
        end = m.AttemptEnd(ended_at=self.world.now, **how)  # type: ignore[arg-type]
        self.world.tell(
            m.AttemptEnded(time=self.world.now, job=job, attempt=self._attempt(job), end=end, jitter=jitter)
        )

    @precondition(lambda self: self.world.state.leases)
    @rule(pick=st.integers(0, 50), stuck=st.booleans())
    def lease_released(self, pick: int, stuck: bool) -> None:
        leases = sorted(self.world.state.leases)
        lease = self.world.state.leases[leases[pick % len(leases)]]
        why = dict.fromkeys(lease.gpus[:1], "memory did not come back") if stuck else {}
        self.world.release(lease.job, lease.attempt, why)

    @precondition(lambda self: self.submitted)
    @rule(pick=st.integers(0, 50), request=REQUESTS)
    def somebody_asks(self, pick: int, request: type[m.Event]) -> None:
        self.world.tell(request(time=self.world.now, job=self._job(pick)))  # type: ignore[call-arg]

    @rule(index=st.integers(0, 2), foreign=st.booleans(), drain=st.booleans())
    def a_gpu_changes(self, index: int, foreign: bool, drain: bool) -> None:
        world, why = self.world, "python (pid 7, bob)" if foreign else None
        whole = tuple(device(i, foreign=why if i == index else None) for i in range(3))
        world.tell(m.DevicesObserved(time=world.now, devices=whole))
        order = m.DrainRequested if drain else m.UndrainRequested
        world.tell(order(time=world.now, uuid=f"GPU-{index}"))

    @rule(seconds=st.floats(0.1, 700))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule()
    def the_daemon_is_killed(self) -> None:
        self.world.restart()

    @rule()
    def a_commit_fails(self) -> None:
        before = dict(self.world.state.jobs)
        decide(self.world.state, [m.Submitted(time=self.world.now, jobs=(new_job(),))])
        assert self.world.state.jobs == before

    @invariant()
    def what_must_always_be_true(self) -> None:
        check_invariants(self.world.state)
        counted = len(self.world.state.outcomes) + sum(
            1 for job in self.world.state.jobs.values() if not job.state.ended
        )
        removed = sum(1 for line in self.world.history if line.type == "job_removed")
        assert counted + removed == self.submitted, "a job was lost or doubled"

    def teardown(self) -> None:
        """Answer every order and let time pass: every job that was not held comes to its end."""
        world = self.world
        world.tell(m.DevicesObserved(time=world.now, devices=tuple(map(device, range(3)))))
        world.tell(m.RoomChanged(time=world.now, room=True))
        for index in range(3):
            world.tell(m.UndrainRequested(time=world.now, uuid=f"GPU-{index}"))
        for job in [j for j in world.state.jobs.values() if j.state is JobState.HELD]:
            world.tell(m.ReleaseRequested(time=world.now, job=job.id))
        for _ in range(20 + 4 * self.submitted):
            for lease in list(world.state.leases.values()):
                if lease.releasing:
                    world.release(lease.job, lease.attempt)
                elif world.state.jobs[lease.job].state.live:
                    world.start(lease.job)
                    world.end(lease.job, exit_code=0)
            due = next_wakeup(world.state, world.now)
            if due is not None:
                world.pass_time(due - world.now)
            for job in [j for j in world.state.jobs.values() if j.state is JobState.HELD]:
                world.tell(m.ReleaseRequested(time=world.now, job=job.id))
        assert not world.state.jobs, "every job comes to an end"


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
