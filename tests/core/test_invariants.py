"""Long random histories: whatever happens in whatever order, the invariants hold and no job is stuck.

Several events may fall into one batch: then each is told of a state that the ones before it have changed
already, though nothing of that is on disk yet.
"""

from __future__ import annotations

import datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.core.world import GIB, World, check_invariants, device, new_job
from trainforge.spec import Schedule
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
        "nan_loss": st.sampled_from(["warn", "stop"]),
    }
)
ENDS = st.sampled_from(
    [{"exit_code": 0}, {"exit_code": 1}, {"signal": 9}, {"lost": True}, {"stopped": True, "exit_code": 0},
     {"start_error": "no room"}]
)  # fmt: skip
TOGETHER = st.booleans()
DEPEND = st.sampled_from([None, "after", "afterany", "afternotok"])
REQUESTS = st.sampled_from([m.CancelRequested, m.HoldRequested, m.ReleaseRequested, m.RemoveRequested])


class Histories(RuleBasedStateMachine):
    """Every rule may be told of any job and attempt, current or not; orders may be answered late. `together`
    leaves an event in the inbox, for the batch of the next one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(gpus=3, cpu=8, memory=8 * GIB)
        self.submitted = 0
        self.inbox: list[m.Event] = []

    def _tell(self, together: bool, *events: m.Event) -> None:
        self.inbox += events
        if not together:
            self._decide()

    def _decide(self) -> None:
        batch, self.inbox = self.inbox, []
        for event, reply in zip(batch, self.world.tell(*batch), strict=True):
            if isinstance(event, m.Submitted) and isinstance(reply, m.Accepted):
                self.submitted += len(event.jobs)
                assert reply.jobs[-1] == self.submitted, "numbers grow by one and are never given twice"

    def _job(self, pick: int) -> int:
        return 1 + pick % max(1, self.submitted)

    def _attempt(self, job: int) -> int:
        known = self.world.state.jobs.get(job)
        return known.attempt if known is not None else 1

    @rule(
        jobs=st.lists(JOBS, min_size=1, max_size=3),
        after=st.integers(0, 50),
        depend=DEPEND,
        begin=st.sampled_from([None, None, -10.0, 40.0]),
        together=TOGETHER,
    )
    def submit(
        self,
        jobs: list[dict[str, object]],
        after: int,
        depend: str | None,
        begin: float | None,
        together: bool,
    ) -> None:
        extra: dict[str, object] = {depend: (self._job(after),)} if depend else {}
        if begin is not None:
            extra["begin"] = datetime.datetime.fromtimestamp(self.world.now + begin, datetime.UTC)
        new = tuple(new_job(**fields, **extra) for fields in jobs)
        self._tell(together, m.Submitted(time=self.world.now, jobs=new))

    @precondition(lambda self: self.submitted)
    @rule(pick=st.integers(0, 50), together=TOGETHER)
    def attempt_starts(self, pick: int, together: bool) -> None:
        job = self._job(pick)
        self._tell(together, m.AttemptStarted(time=self.world.now, job=job, attempt=self._attempt(job)))

    @precondition(lambda self: self.submitted)
    @rule(pick=st.integers(0, 50), together=TOGETHER)
    def progresses(self, pick: int, together: bool) -> None:
        job = self._job(pick)
        self._tell(together, m.Progressed(time=self.world.now, job=job, attempt=self._attempt(job)))

    @precondition(lambda self: self.submitted)
    @rule(pick=st.integers(0, 50), together=TOGETHER)
    def a_hang_is_found(self, pick: int, together: bool) -> None:
        job, now = self._job(pick), self.world.now
        self._tell(together, m.HangFound(time=now, job=job, attempt=self._attempt(job), message="silent"))

    @precondition(lambda self: self.submitted)
    @rule(pick=st.integers(0, 50), together=TOGETHER)
    def a_loss_is_no_number(self, pick: int, together: bool) -> None:
        job, now = self._job(pick), self.world.now
        told = m.LossNotFinite(time=now, job=job, attempt=self._attempt(job), message="loss = nan")
        self._tell(together, told)

    @rule(room=st.booleans(), together=TOGETHER)
    def the_disk_fills_or_empties(self, room: bool, together: bool) -> None:
        self._tell(together, m.RoomChanged(time=self.world.now, room=room))

    @precondition(lambda self: self.submitted)
    @rule(
        pick=st.integers(0, 50),
        how=ENDS,
        jitter=st.floats(0, 0.99),
        released=st.booleans(),
        together=TOGETHER,
    )
    def attempt_ends(
        self, pick: int, how: dict[str, object], jitter: float, released: bool, together: bool
    ) -> None:
        """Perhaps nothing of it is left in the same moment."""
        job, now = self._job(pick), self.world.now
        attempt, end = self._attempt(job), m.AttemptEnd(ended_at=now, **how)  # type: ignore[arg-type]
        told: list[m.Event] = [m.AttemptEnded(time=now, job=job, attempt=attempt, end=end, jitter=jitter)]
        if released:
            told.append(m.LeaseReleased(time=now, job=job, attempt=attempt))
        self._tell(together, *told)

    @precondition(lambda self: self.world.state.leases)
    @rule(pick=st.integers(0, 50), stuck=st.booleans(), together=TOGETHER)
    def lease_released(self, pick: int, stuck: bool, together: bool) -> None:
        leases = sorted(self.world.state.leases)
        lease = self.world.state.leases[leases[pick % len(leases)]]
        why = dict.fromkeys(lease.gpus[:1], "memory did not come back") if stuck else {}
        now = self.world.now
        self._tell(together, m.LeaseReleased(time=now, job=lease.job, attempt=lease.attempt, stuck=why))

    @precondition(lambda self: self.submitted)
    @rule(pick=st.integers(0, 50), request=REQUESTS, together=TOGETHER)
    def somebody_asks(self, pick: int, request: type[m.Event], together: bool) -> None:
        asked = request(time=self.world.now, job=self._job(pick))  # type: ignore[call-arg]
        self._tell(together, asked)

    @precondition(lambda self: self.submitted)
    @rule(pick=st.integers(0, 50), after=st.integers(0, 50), depend=DEPEND, priority=st.integers(-2, 2),
          together=TOGETHER)  # fmt: skip
    def a_job_is_changed(
        self, pick: int, after: int, depend: str | None, priority: int, together: bool
    ) -> None:
        waits_for = {depend: (self._job(after),)} if depend else {}
        schedule = Schedule(priority=priority, **waits_for)
        asked = m.UpdateRequested(time=self.world.now, job=self._job(pick), key="k", schedule=schedule)
        self._tell(together, asked)

    @rule(index=st.integers(0, 2), foreign=st.booleans(), drain=st.booleans(), together=TOGETHER)
    def a_gpu_changes(self, index: int, foreign: bool, drain: bool, together: bool) -> None:
        now, why = self.world.now, "python (pid 7, bob)" if foreign else None
        whole = tuple(device(i, foreign=why if i == index else None) for i in range(3))
        order = m.DrainRequested if drain else m.UndrainRequested
        observed = m.DevicesObserved(time=now, devices=whole)
        self._tell(together, observed, order(time=now, uuid=f"GPU-{index}"))

    @rule(seconds=st.floats(0.1, 700), together=TOGETHER)
    def time_passes(self, seconds: float, together: bool) -> None:
        self.world.now += seconds
        self._tell(together, m.TimePassed(time=self.world.now))

    @rule(by=st.floats(-700, 90000), together=TOGETHER)
    def the_clock_is_set(self, by: float, together: bool) -> None:
        self.world.now += by
        self._tell(together, m.ClockSet(time=self.world.now, by=by))

    @rule()
    def the_daemon_is_killed(self) -> None:
        """What it had not yet decided, nobody has been told."""
        self.inbox = []
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
        self._decide()
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
