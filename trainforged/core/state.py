"""What the core remembers (`State`), and a decision in the making (`Draft`).

`State` changes only by `apply`, with changes that have been committed. A `Draft` lies over it:
it shows the state as it would be, and collects the changes that lead there. Dropping a draft
leaves nothing behind, so a commit that fails costs nothing.
"""

from __future__ import annotations

import bisect
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from trainforge.spec import Resources
from trainforge.states import JobState
from trainforged.core import dependencies
from trainforged.core import messages as m

Place = tuple[int, int]  # (-priority, id): the order of the queue
T = TypeVar("T", Place, tuple[float, Place])

UNKNOWN_MACHINE = m.Machine(cpu=0, memory=0)
DEFAULT_PATIENCE = 600.0
MOST_INTERNED = 10_000


def place(job: m.Job) -> Place:
    """Where the job stands: higher priority first, then order of submission."""
    return -job.schedule.priority, job.id


def is_timed(job: m.Job) -> bool:
    """True if the passing of time alone may change something for this job (but for its begin: see
    `State.sleeping`)."""
    if job.state is JobState.QUEUED:
        return job.passed_since is not None
    if job.state is JobState.RUNNING:
        return job.schedule.time_limit is not None or job.recovery.hang_timeout is not None
    return job.state is JobState.BACKOFF


class State:
    """Jobs that have not ended (or still hold a lease), leases, devices, and indexes over them."""

    def __init__(self) -> None:
        self.machine = UNKNOWN_MACHINE
        self.patience = DEFAULT_PATIENCE
        self.next_id = 1
        self.jobs: dict[int, m.Job] = {}
        self.outcomes: dict[int, JobState] = {}  # of every ended job that has not been removed
        self.counts: Counter[JobState] = Counter()  # of every job that has not been removed
        self.leases: dict[int, m.Lease] = {}
        self.devices: dict[str, m.Device] = {}
        self.queue: list[Place] = []  # every queued job
        self.ready: list[Place] = []  # those that wait for neither a job nor a time
        self.sleeping: list[tuple[float, Place]] = []  # those with a begin, by begin; perhaps past
        self.shapes: Counter[Resources] = Counter()  # of the jobs in `ready`
        self.dependents: dict[int, set[int]] = {}
        self.timed: set[int] = set()
        self._interned: dict[object, object] = {}

    def apply(self, changes: Iterable[m.Change]) -> None:
        """Take over what has been committed."""
        for change in changes:
            match change:
                case m.JobAdded(job=job) | m.JobChanged(job=job):
                    self._put(job)
                case m.JobRemoved(job=job_id):
                    outcome = self.outcomes.pop(job_id, None)
                    if outcome is not None:
                        self.counts[outcome] -= 1
                case m.LeaseChanged(lease=lease):
                    self.leases[lease.job] = lease
                case m.LeaseEnded(job=job_id):
                    self.leases.pop(job_id, None)
                    self._forget_if_over(job_id)
                case m.DeviceChanged(device=device):
                    self.devices[device.uuid] = device
                case m.DeviceRemoved(uuid=uuid):
                    self.devices.pop(uuid, None)
                case m.MachineChanged(machine=machine):
                    self.machine = machine
                case m.PatienceChanged(patience=patience):
                    self.patience = patience

    def restore(self, jobs: Iterable[m.Job], leases: Iterable[m.Lease], devices: Iterable[m.Device]) -> None:
        """Fill a state that has only its outcomes with what storage kept. The indexes follow from it."""
        self.counts = Counter(self.outcomes.values())
        self.leases.update((lease.job, lease) for lease in leases)
        self.devices.update((device.uuid, device) for device in devices)
        for job in jobs:
            self._put(job, sort=False)
        self.queue.sort()
        self.ready.sort()
        self.sleeping.sort()

    def _put(self, job: m.Job, sort: bool = True) -> None:
        old = self.jobs.get(job.id)
        if old is not None and old.state is JobState.QUEUED:
            self._leave_queue(old)
        job = self._share(job)
        self._count(old, job)
        self.jobs[job.id] = job
        self.next_id = max(self.next_id, job.id + 1)
        if job.state is JobState.QUEUED:
            self._join_queue(job, sort)
        self._index(old, job)
        self._forget_if_over(job.id)

    def _count(self, old: m.Job | None, job: m.Job) -> None:
        if old is not None:
            self.counts[old.state] -= 1
        if old is not None or job.id not in self.outcomes:  # else it is counted, and still holds a lease
            self.counts[job.state] += 1

    def _join_queue(self, job: m.Job, sort: bool) -> None:
        _add(self.queue, place(job), sort)
        if self._waits_for_jobs(job):
            return
        if job.schedule.begin is not None:
            _add(self.sleeping, (job.schedule.begin.timestamp(), place(job)), sort)
        else:
            _add(self.ready, place(job), sort)
            self.shapes[job.resources] += 1

    def _leave_queue(self, job: m.Job) -> None:
        _drop(self.queue, place(job))
        if job.schedule.begin is not None:
            _drop(self.sleeping, (job.schedule.begin.timestamp(), place(job)))
        elif _drop(self.ready, place(job)):
            self.shapes[job.resources] -= 1
            if not self.shapes[job.resources]:
                del self.shapes[job.resources]

    def _waits_for_jobs(self, job: m.Job) -> bool:
        return dependencies.waits(job.schedule, self.outcomes.get)

    def _index(self, old: m.Job | None, job: m.Job) -> None:
        if is_timed(job):
            self.timed.add(job.id)
        else:
            self.timed.discard(job.id)
        if old is not None and old.schedule.waits_for != job.schedule.waits_for:
            self._unlink(old)
        if not job.state.ended:
            for other in job.schedule.waits_for:
                self.dependents.setdefault(other, set()).add(job.id)
        else:
            self._unlink(job)

    def _unlink(self, job: m.Job) -> None:
        for other in job.schedule.waits_for:
            waiting = self.dependents.get(other, set())
            waiting.discard(job.id)
            if not waiting:
                self.dependents.pop(other, None)

    def _forget_if_over(self, job_id: int) -> None:
        job = self.jobs.get(job_id)
        if job is None or not job.state.ended:
            return
        if self.outcomes.get(job_id) is not job.state:
            self._take_down(job)
        if job_id not in self.leases:
            del self.jobs[job_id]

    def _take_down(self, job: m.Job) -> None:
        """Take down how the job ended; who waited for that may be ready now."""
        waiting = [self.jobs[i] for i in self.dependents.get(job.id, ())]
        queued = [other for other in waiting if other.state is JobState.QUEUED]
        for other in queued:
            self._leave_queue(other)
        self.outcomes[job.id] = job.state
        for other in queued:
            self._join_queue(other, sort=True)

    def _share(self, job: m.Job) -> m.Job:
        """One object for equal parts: 100,000 queued jobs are mostly alike."""
        if len(self._interned) > MOST_INTERNED:
            self._interned.clear()
        parts = {name: getattr(job, name) for name in ("resources", "schedule", "recovery")}
        shared = {name: self._interned.setdefault(part, part) for name, part in parts.items()}
        return msgspec.structs.replace(job, **shared)


def _add(places: list[T], item: T, sort: bool) -> None:
    """Put it in its place, or at the end where the list is sorted afterwards."""
    if sort:
        bisect.insort(places, item)
    else:
        places.append(item)


def _drop(places: list[T], item: T) -> bool:
    """Take it out of a sorted list; False if it is not there."""
    at = bisect.bisect_left(places, item)
    if at == len(places) or places[at] != item:
        return False
    del places[at]
    return True


class Draft:
    """The state as it would be after the decision so far."""

    def __init__(self, base: State) -> None:
        self.base = base
        self.jobs: dict[int, m.Job] = {}
        self.leases: dict[int, m.Lease | None] = {}
        self.devices: dict[str, m.Device | None] = {}
        self.machine = base.machine
        self.patience = base.patience
        self.next_id = base.next_id
        self.reschedule = False
        self.effects: list[m.Effect] = []
        self._added: dict[int, str] = {}
        self._removed: set[int] = set()
        self._after: dict[int, set[int]] = {}  # job → who waits for it, of those put here
        self._resubmitted: dict[int, str] = {}
        self._attempts: dict[tuple[int, int], m.Attempt] = {}
        self._history: list[m.Happened] = []

    # ---- reading

    def job(self, job_id: int) -> m.Job | None:
        if job_id in self._removed:
            return None
        return self.jobs.get(job_id) or self.base.jobs.get(job_id)

    def outcome(self, job_id: int) -> JobState | None:
        """How the job ended; None if it has not, or is not known."""
        if job_id in self._removed:
            return None
        job = self.jobs.get(job_id)
        if job is not None:
            return job.state if job.state.ended else None
        return self.base.outcomes.get(job_id)

    def waiting_for(self, job_id: int) -> set[int]:
        """Jobs that have not ended and are to start after this one."""
        named = self.base.dependents.get(job_id, set()) | self._after.get(job_id, set())
        jobs = (self.job(other) for other in named)
        return {j.id for j in jobs if j is not None and not j.state.ended and job_id in j.schedule.waits_for}

    def touched_or_waiting(self) -> set[int]:
        """Jobs that this draft puts somewhere, with those that wait for one that ends in it."""
        ended = [job.id for job in self.jobs.values() if job.state.ended]
        return self.jobs.keys() | {other for job_id in ended for other in self.waiting_for(job_id)}

    def known(self, job_id: int) -> bool:
        return self.job(job_id) is not None or self.outcome(job_id) is not None

    def lease(self, job_id: int) -> m.Lease | None:
        if job_id in self.leases:
            return self.leases[job_id]
        return self.base.leases.get(job_id)

    def all_leases(self) -> Iterator[m.Lease]:
        for job_id, lease in self.base.leases.items():
            if job_id not in self.leases:
                yield lease
        yield from (lease for lease in self.leases.values() if lease is not None)

    def all_devices(self) -> list[m.Device]:
        """In the order of their index."""
        merged = {**self.base.devices, **self.devices}.values()
        present = [device for device in merged if device is not None]
        return sorted(present, key=lambda device: (device.index, device.uuid))

    def device(self, uuid: str) -> m.Device | None:
        return self.devices[uuid] if uuid in self.devices else self.base.devices.get(uuid)

    def candidates(self, now: float) -> Iterator[m.Job]:
        """Queued jobs that may start by what is known of the time and of other jobs, in the order of
        the queue, this draft's moves included. (A few others may be among them.)"""
        extra = sorted(place(job) for job in self._awoken(now))
        jobs, touched = self.base.jobs, self.jobs
        ready = (where for where in self.base.ready if where[1] not in touched)
        for where in heapq.merge(ready, extra) if extra else ready:
            yield touched.get(where[1]) or jobs[where[1]]

    def shapes(self, now: float) -> set[Resources]:
        """The different requests among the candidates (or a few more)."""
        return self.base.shapes.keys() | {job.resources for job in self._awoken(now)}

    def _awoken(self, now: float) -> Iterator[m.Job]:
        """Candidates that the base does not list as ready: touched here, due, or set free here."""
        base = self.base
        for job in self.jobs.values():
            if job.state is JobState.QUEUED:
                yield job
        due = bisect.bisect_right(base.sleeping, now, key=lambda entry: entry[0])
        freed = {
            other
            for job in self.jobs.values()
            if job.state.ended
            for other in base.dependents.get(job.id, ())
        }
        freed.update(where[1] for _, where in base.sleeping[:due])
        for job_id in freed:
            job = base.jobs[job_id]
            if job_id not in self.jobs and job.state is JobState.QUEUED:
                yield job

    def timed(self) -> list[m.Job]:
        """Jobs that time may change, this draft's moves included."""
        ids = {i for i in self.base.timed if i not in self.jobs}
        return [self.base.jobs[i] for i in sorted(ids)] + [j for j in self.jobs.values() if is_timed(j)]

    # ---- changing

    def put(self, job: m.Job) -> None:
        self.jobs[job.id] = job
        for other in job.schedule.waits_for:
            self._after.setdefault(other, set()).add(job.id)

    def add(self, job: m.Job, key: str) -> None:
        self._added[job.id] = key
        self.next_id = job.id + 1
        self.put(job)

    def remove(self, job_id: int) -> None:
        self._removed.add(job_id)

    def resubmit(self, job_id: int, key: str) -> None:
        self._resubmitted[job_id] = key

    def put_lease(self, lease: m.Lease) -> None:
        self.leases[lease.job] = lease

    def end_lease(self, job_id: int) -> None:
        self.leases[job_id] = None

    def put_device(self, device: m.Device) -> None:
        self.devices[device.uuid] = device

    def remove_device(self, uuid: str) -> None:
        self.devices[uuid] = None

    def put_attempt(self, attempt: m.Attempt) -> None:
        self._attempts[attempt.job, attempt.number] = attempt

    def order(self, effect: m.Effect) -> None:
        self.effects.append(effect)

    def note(self, time: float, type: str, message: str, job: int | None = None, **data: object) -> None:
        """Add a line of history."""
        self._history.append(m.Happened(time=time, type=type, message=message, job=job, data=data))

    def changes(self) -> tuple[m.Change, ...]:
        """What leads from the base to this draft; one change for each thing that changed."""
        out: list[m.Change] = []
        if self.machine != self.base.machine:
            out.append(m.MachineChanged(machine=self.machine))
        if self.patience != self.base.patience:
            out.append(m.PatienceChanged(patience=self.patience))
        for uuid, device in self.devices.items():
            out.append(m.DeviceRemoved(uuid=uuid) if device is None else m.DeviceChanged(device=device))
        for job in self.jobs.values():
            if job.id in self._added:
                out.append(m.JobAdded(job=job, key=self._added[job.id]))
            elif job != self.base.jobs.get(job.id):
                out.append(m.JobChanged(job=job))
        out += (m.SubmissionChanged(job=i, key=key) for i, key in self._resubmitted.items())
        out += (m.AttemptChanged(attempt=a) for a in self._attempts.values())
        for job_id, lease in self.leases.items():
            if lease is not None:
                out.append(m.LeaseChanged(lease=lease))
            elif job_id in self.base.leases:
                out.append(m.LeaseEnded(job=job_id))
        out += (m.JobRemoved(job=i) for i in sorted(self._removed))
        out += self._history
        return tuple(out)
