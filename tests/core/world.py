"""A machine for histories: the core with a clock of its own, and the invariants after every step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from trainforge.spec import Recovery, Resources, Schedule
from trainforge.states import JobState
from trainforged.core import messages as m
from trainforged.core.machine import Decision, decide, outstanding
from trainforged.core.state import Draft, State, place

GIB = 2**30


def device(index: int, **fields: object) -> m.Device:
    return m.Device(uuid=f"GPU-{index}", index=index, **fields)  # type: ignore[arg-type]


def new_job(**fields: object) -> m.NewJob:
    """A job of one GPU by default; `gpu`, `cpu`, `memory`, `priority`, `after`, `begin`, … as in the file."""
    parts = {
        "resources": Resources(**_take(fields, "gpu", "cpu", "memory")),
        "schedule": Schedule(
            **_take(fields, "priority", "time_limit", "after", "afterany", "afternotok", "begin")
        ),
        "recovery": Recovery(**_take(fields, "max_retries", "backoff", "hang_timeout", "grace", "nan_loss")),
    }
    whole = {"key": "k", "name": "job", "user": "alice", "script": True} | parts | fields
    return m.NewJob(**whole)  # type: ignore[arg-type]


def _take(fields: dict[str, object], *names: str) -> dict[str, object]:
    return {name: fields.pop(name) for name in names if name in fields}


class World:
    """`gpus` GPUs, `cpu` cores, and what was ordered but not yet answered."""

    def __init__(self, gpus: int = 2, cpu: int = 16, memory: int = 64 * GIB) -> None:
        self.state = State()
        self.now = 1000.0
        self.position = 0.0
        self.told = 0  # events
        self.effects: list[m.Effect] = []
        self.history: list[m.Happened] = []
        self.attempts: dict[tuple[int, int], m.Attempt] = {}
        self.tell(m.DaemonStarted(time=self.now, machine=m.Machine(cpu=cpu, memory=memory)))
        self.tell(m.DevicesObserved(time=self.now, devices=tuple(device(i) for i in range(gpus))))

    # ---- steps

    def tell(self, *events: m.Event) -> tuple[m.Reply, ...]:
        """One batch. Returns the replies; effects of this batch are in `effects`."""
        self.told += len(events)
        decision = decide(self.state, events)
        self.take(decision)
        return decision.replies

    def take(self, decision: Decision) -> None:
        self.state.apply(decision.changes)
        self.effects = list(decision.effects)
        for change in decision.changes:
            if isinstance(change, m.Happened):
                self.history.append(change)
            if isinstance(change, m.AttemptChanged):
                self.attempts[change.attempt.job, change.attempt.number] = change.attempt
        check_invariants(self.state)

    def submit(self, *jobs: m.NewJob, **fields: object) -> int:
        """Submit the jobs, or one made of `fields`; the id of the first."""
        (reply,) = self.tell(m.Submitted(time=self.now, jobs=jobs or (new_job(**fields),)))
        assert isinstance(reply, m.Accepted), reply
        return reply.jobs[0]

    def start(self, job: int) -> None:
        self.tell(m.AttemptStarted(time=self.now, job=job, attempt=self.state.jobs[job].attempt))

    def progress(self, job: int) -> None:
        self.position += 1
        attempt = self.state.jobs[job].attempt
        self.tell(m.Progressed(time=self.now, job=job, attempt=attempt, position=self.position))

    def end(
        self,
        job: int,
        release: bool = True,
        jitter: float = 0.5,
        position: float | None = None,
        **how: object,
    ) -> None:
        """End the job's attempt (`exit_code=1`, `lost=True`, …), and give its lease back."""
        attempt = self.state.jobs[job].attempt
        end = m.AttemptEnd(ended_at=self.now, **how)  # type: ignore[arg-type]
        self.tell(
            m.AttemptEnded(time=self.now, job=job, attempt=attempt, end=end, position=position, jitter=jitter)
        )
        if release:
            self.release(job, attempt)

    def release(self, job: int, attempt: int, stuck: dict[str, str] | None = None) -> None:
        self.tell(m.LeaseReleased(time=self.now, job=job, attempt=attempt, stuck=stuck or {}))

    def run(self, job: int, **how: object) -> None:
        self.start(job)
        self.end(job, **(how or {"exit_code": 0}))  # type: ignore[arg-type]

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.tell(m.TimePassed(time=self.now))

    def restart(self) -> list[m.Effect]:
        """A new daemon on the same disk; what it orders."""
        old, self.state = self.state, State()
        self.state.outcomes = dict(old.outcomes)
        self.state.next_id = old.next_id
        self.state.restore(old.jobs.values(), old.leases.values(), old.devices.values())
        self.tell(m.DaemonStarted(time=self.now, machine=old.machine))
        return list(outstanding(self.state))

    # ---- looking

    def where(self, job: int) -> JobState:
        known = self.state.jobs.get(job)
        return known.state if known is not None else self.state.outcomes[job]

    def gpus(self, job: int) -> Sequence[str]:
        lease = self.state.leases.get(job)
        return lease.gpus if lease is not None else ()

    def happened(self, job: int) -> list[str]:
        return [line.type for line in self.history if line.job == job]


WAITING = (JobState.QUEUED, JobState.HELD, JobState.BACKOFF)


def check_invariants(state: State) -> None:
    """What must always be true of the core's memory, whatever happened."""
    held = [uuid for lease in state.leases.values() for uuid in lease.gpus]
    assert len(held) == len(set(held)), "a GPU has two holders"
    assert sum(lease.cpu for lease in state.leases.values()) <= state.machine.cpu
    assert sum(lease.memory for lease in state.leases.values()) <= state.machine.memory
    for job in state.jobs.values():
        lease = state.leases.get(job.id)
        if job.state.live:
            assert lease is not None, f"{job.state} without a lease"
            assert lease.attempt == job.attempt
            assert not lease.releasing, "a live attempt's lease is being released"
        elif lease is not None:
            assert lease.releasing, f"{job.state} with a lease that nobody releases"
        if job.state.ended:
            assert state.outcomes[job.id] is job.state
        if job.state in WAITING:
            for other in job.schedule.waits_for:
                how = state.outcomes.get(other)
                assert other in state.jobs or how is not None, f"job {job.id} waits for one that is unknown"
                in_vain = other in job.schedule.after and how not in (None, JobState.SUCCEEDED)
                needless = other in job.schedule.afternotok and how is JobState.SUCCEEDED
                assert not in_vain, f"job {job.id} waits for one that has {how}"
                assert not needless, f"job {job.id} waits for the failure of one that succeeded"
    unended = [job.state for job in state.jobs.values() if not job.state.ended]
    assert +state.counts == Counter(unended) + Counter(state.outcomes.values())
    queued = [job for job in state.jobs.values() if job.state is JobState.QUEUED]
    assert state.queue == sorted(map(place, queued))
    free = [job for job in queued if not waits_for_jobs(state, job)]
    assert state.ready == sorted(place(job) for job in free if job.schedule.begin is None)
    assert [where for _, where in state.sleeping] == [
        place(job) for job in sorted(free, key=begin_and_place) if job.schedule.begin is not None
    ]
    assert sum(state.shapes.values()) == len(state.ready)
    assert Draft(state).changes() == (), "looking at the state changes it"


def waits_for_jobs(state: State, job: m.Job) -> bool:
    how = state.outcomes.get
    return (
        any(how(other) is not JobState.SUCCEEDED for other in job.schedule.after)
        or any(how(other) is None for other in job.schedule.afterany)
        or any(how(other) in (None, JobState.SUCCEEDED) for other in job.schedule.afternotok)
    )


def begin_and_place(job: m.Job) -> tuple[float, tuple[int, int]]:
    begin = job.schedule.begin
    return begin.timestamp() if begin is not None else 0.0, place(job)
