"""Who starts next, and on what: a pure function of the queue, the devices and the time.

Highest priority first, then order of submission. A job takes all its GPUs, cores and memory at
once or waits. One that fits may pass one that does not; the first in line among those that do not
fit notes since when it is passed, and once that is longer than the patience, what comes free is
kept for it until it starts. So no job is passed for ever, and nothing stands idle before that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from trainforge.spec import Resources
from trainforge.states import WaitReason
from trainforged.core import messages as m

SPARE = 8  # one core in so many is for jobs without a GPU, unless jobs ask for cores by number


class Free(msgspec.Struct, frozen=True, kw_only=True):
    """What can be given now. `gpus` in the order in which they are given."""

    gpus: tuple[str, ...]
    cpu: int
    memory: int


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """A request with the machine's defaults filled in, for a given number of GPUs."""

    gpu: int
    cpu: int
    memory: int


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    job: int
    gpus: tuple[str, ...]
    cpu: int
    memory: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a pass decided: who starts, and who was passed for the first time."""

    grants: tuple[Grant, ...] = ()
    passed: int | None = None  # id of the first job in line that does not fit, if others passed it


def default_cpu(gpus: int, machine: m.Machine, gpu_total: int) -> int:
    """The machine's cores by share of its GPUs, but for some that stay for jobs without one: those get
    a core each, and neither kind waits for the other."""
    if gpus == 0 or gpu_total == 0:
        return 1
    spare = max(1, machine.cpu // SPARE)
    return max(1, (machine.cpu - spare) * gpus // gpu_total)


def needs(resources: Resources, gpus: int, machine: m.Machine, gpu_total: int) -> Needs:
    cpu = resources.cpu if resources.cpu is not None else default_cpu(gpus, machine, gpu_total)
    return Needs(gpu=gpus, cpu=cpu, memory=resources.memory or 0)


def free(devices: Sequence[m.Device], leases: Iterable[m.Lease], machine: m.Machine) -> Free:
    """What no lease holds and no reason keeps back."""
    leases = list(leases)
    held = {uuid for lease in leases for uuid in lease.gpus}
    return Free(
        gpus=tuple(d.uuid for d in devices if d.uuid not in held and d.refusal is None),
        cpu=machine.cpu - sum(lease.cpu for lease in leases),
        memory=machine.memory - sum(lease.memory for lease in leases),
    )


def fit(resources: Resources, what: Free, machine: m.Machine, gpu_total: int) -> Needs | None:
    """What the request would take of `what` now; None if it does not fit. A range takes all it may."""
    least, most = resources.gpu_range
    for gpus in range(min(most, len(what.gpus)), least - 1, -1):
        wanted = needs(resources, gpus, machine, gpu_total)
        if wanted.cpu <= what.cpu and wanted.memory <= what.memory:
            return wanted
    return None


def shortage(resources: Resources, what: Free, machine: m.Machine, gpu_total: int) -> WaitReason | None:
    """The first thing that is too little for the request; None if it fits."""
    least, _ = resources.gpu_range
    wanted = needs(resources, least, machine, gpu_total)
    if wanted.gpu > len(what.gpus):
        return WaitReason.WAITING_FOR_GPUS
    if wanted.cpu > what.cpu:
        return WaitReason.WAITING_FOR_CPU
    if wanted.memory > what.memory:
        return WaitReason.WAITING_FOR_MEMORY
    return None


def overdue(jobs: Iterable[m.Job], patience: float, now: float) -> m.Job | None:
    """The job that has been passed longest, if that is longer than the patience."""
    passed = [job for job in jobs if job.passed_since is not None and now - job.passed_since >= patience]
    return min(passed, key=lambda job: (job.passed_since, job.id), default=None)


class Pass:
    """One pass over the queue. Make it, call `run` once."""

    def __init__(
        self,
        *,
        devices: Sequence[m.Device],
        leases: Iterable[m.Lease],
        machine: m.Machine,
        may_start: Callable[[m.Job], bool],
    ) -> None:
        leases = list(leases)
        self._devices = devices
        self._machine = machine
        self._may_start = may_start
        self._gpu_total = len(devices)
        self._free = free(devices, leases, machine)
        self._if_all_ended = free(devices, (), machine)
        self._possible: dict[Resources, bool] = {}
        self._grants: list[Grant] = []
        self._first_blocked: m.Job | None = None
        self._passed: int | None = None

    def run(self, queue: Iterable[m.Job], shapes: set[Resources], first: m.Job | None) -> Plan:
        """`queue` in order; `shapes` at least its different requests; `first`: the overdue job.

        Requests are told apart by shape, so that a long queue of few shapes is left early.
        """
        if first is not None and self._may_start(first) and not self._try(first):
            self._keep_for(first)
        fitting = {shape for shape in shapes if self._fit(shape) is not None}
        for job in queue if fitting else ():
            if job is first:
                continue
            if job.resources not in fitting:
                self._note_blocked(job)
            elif self._may_start(job) and self._try(job):
                fitting = {shape for shape in fitting if self._fit(shape) is not None}
                if not fitting:
                    break
        return Plan(grants=tuple(self._grants), passed=self._passed)

    def _fit(self, resources: Resources) -> Needs | None:
        return fit(resources, self._free, self._machine, self._gpu_total)

    def _note_blocked(self, job: m.Job) -> None:
        if self._first_blocked is None and self._may_start(job) and self._could_ever(job.resources):
            self._first_blocked = job

    def _try(self, job: m.Job) -> bool:
        wanted = self._fit(job.resources)
        if wanted is None:
            return False
        taken = self._free.gpus[: wanted.gpu]
        self._grants.append(Grant(job=job.id, gpus=taken, cpu=wanted.cpu, memory=wanted.memory))
        self._take(wanted)
        if self._first_blocked is not None and self._first_blocked.passed_since is None:
            self._passed = self._first_blocked.id
        return True

    def _take(self, wanted: Needs) -> None:
        what = self._free
        self._free = Free(
            gpus=what.gpus[wanted.gpu :], cpu=what.cpu - wanted.cpu, memory=what.memory - wanted.memory
        )

    def _could_ever(self, resources: Resources) -> bool:
        """False while too few GPUs are in service: keeping things for it would help nobody."""
        if resources not in self._possible:
            wanted = fit(resources, self._if_all_ended, self._machine, self._gpu_total)
            self._possible[resources] = wanted is not None
        return self._possible[resources]

    def _keep_for(self, job: m.Job) -> None:
        if self._could_ever(job.resources):
            least, _ = job.resources.gpu_range
            self._take(needs(job.resources, least, self._machine, self._gpu_total))
