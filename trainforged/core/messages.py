"""The vocabulary of the core: what it remembers, what it is told, what it changes, what it orders.

Everything is frozen and knows how to become JSON. Times are seconds since the epoch and ride on
the events: the core has no clock. An event is a fact in the past tense, an effect an order in the
imperative. Nothing here does anything.
"""

from __future__ import annotations

from typing import Any

import msgspec

from trainforge.spec import Recovery, Resources, Schedule
from trainforge.states import EndReason, JobState


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="kind"):
    """Base of all messages; `tag` puts the class's name into its JSON."""


# ---------------------------------------------------------------- what the core remembers


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What has to be known of a job to decide about it. The rest of its submission lies in storage."""

    id: int
    name: str
    user: str
    state: JobState
    submitted_at: float
    script: bool  # False: a command, which does not resume
    resources: Resources = Resources()
    schedule: Schedule = Schedule()
    recovery: Recovery = Recovery()
    reason: str | None = None  # WaitReason or EndReason where the state alone does not say it
    started_at: float | None = None  # of the first attempt
    ended_at: float | None = None
    attempt: int = 0  # number of the newest; 0 before the first
    attempt_started_at: float | None = None  # set while an attempt exists
    spent: float = 0.0  # seconds in ended attempts
    retries: int = 0  # starts beyond the first that a failure caused
    streak: int = 0  # retries in a row without progress
    not_before: float | None = None  # end of the backoff
    progressed_at: float | None = None  # in this attempt
    furthest: float | None = None  # position that any attempt has reported
    advanced: bool = False  # this attempt got beyond what earlier ones had reached
    stopping_for: EndReason | None = None  # our order, while it is being obeyed
    last_error: str | None = None  # of the last failure, to see the same one twice
    evidence: str | None = None  # of how it, or its newest attempt, ended: one line
    exit_code: int | None = None
    passed_since: float | None = None  # since when later jobs start before it


class Lease(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A committed hold on GPUs, cores and memory by one attempt."""

    job: int
    attempt: int
    gpus: tuple[str, ...] = ()  # UUIDs, in the order of the ranks
    cpu: int = 0
    memory: int = 0
    granted_at: float = 0.0
    resumed_from: str | None = None  # the checkpoint that the attempt was started with
    releasing: bool = False  # the attempt is over; what it held is not yet known to be free


class Device(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A GPU as far as the scheduler cares. It is offered when all four reasons are empty."""

    uuid: str
    index: int
    name: str = ""
    memory_total: int = 0
    foreign: str | None = None  # a process that is not ours uses it, or too little memory is free
    set_aside: str | None = None  # cannot be trusted; kept over restarts
    drained: str | None = None  # a person took it out; kept over restarts
    missing: str | None = None  # not in the latest inventory

    @property
    def refusal(self) -> str | None:
        """Why it is not offered, or None."""
        return self.missing or self.set_aside or self.drained or self.foreign


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to give beside GPUs."""

    cpu: int  # cores
    memory: int  # bytes
    room: bool = True  # the state folder's disk has enough for a job to go on


class RankEnd(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one rank ended; None where it is not known."""

    rank: int
    pid: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    error_type: str | None = None  # "ModuleNotFoundError"
    error: str | None = None  # "ModuleNotFoundError: No module named 'foo'"
    traceback: str | None = None
    ended_at: float | None = None


class AttemptEnd(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an attempt ended, as its shim wrote it. `lost`: no shim and no status."""

    started_at: float | None = None  # the command's first instruction; None: it never ran
    ended_at: float
    ran: float | None = None  # seconds from start to end, whatever was done to the clock; None: not known
    exit_code: int | None = None
    signal: int | None = None
    stopped: bool = False  # it ended within its grace after an order
    lost: bool = False
    start_error: str | None = None  # a sentence: why it never ran
    hopeless: bool = False  # the same start would fail in the same way (no such script, say)
    ranks: tuple[RankEnd, ...] = ()  # in order of their end
    tails: dict[int, str] = {}  # the last that failing ranks wrote (0: of a command)
    full: bool = False  # no room is left on the disk to which it writes, and its words
    oom_kills: int = 0  # of its processes, that the kernel killed for want of memory
    oom_elsewhere: int = 0  # the same on the whole machine meanwhile, where nobody counted its own
    oom_log: str | None = None  # a sentence: what the kernel's log says of such a kill of one of its own
    foreign: dict[str, str] = {}  # who else used its GPUs at the end (UUID → sentence)
    faults: dict[str, str] = {}  # what is wrong with its GPUs (UUID → sentence)
    rebooted: bool = False  # lost or stopped, since the machine was restarted


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One start of a job, kept for as long as the job is."""

    job: int
    number: int
    gpus: tuple[str, ...] = ()
    granted_at: float
    started_at: float | None = None
    ended_at: float | None = None
    reason: EndReason | None = None
    end: AttemptEnd | None = None
    resumed_from: str | None = None  # the checkpoint it was started with


# ---------------------------------------------------------------- events


class Event(Message, frozen=True, kw_only=True):
    """Something that happened. `time` is when."""

    time: float


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """What the core is told of a job that is submitted; `key` finds the rest in storage."""

    key: str
    name: str
    user: str
    script: bool
    resources: Resources
    schedule: Schedule
    recovery: Recovery
    hold: bool = False


class Submitted(Event, frozen=True, kw_only=True):
    """Taken whole or refused whole. Reply: `Accepted` or `Refused`."""

    jobs: tuple[NewJob, ...]


class CancelRequested(Event, frozen=True, kw_only=True):
    job: int
    now: bool = False


class HoldRequested(Event, frozen=True, kw_only=True):
    job: int


class ReleaseRequested(Event, frozen=True, kw_only=True):
    job: int


class UpdateRequested(Event, frozen=True, kw_only=True):
    """New values in place of the old ones; None leaves one as it is. `key` finds the changed
    submission in storage."""

    job: int
    key: str
    resources: Resources | None = None
    schedule: Schedule | None = None
    recovery: Recovery | None = None


class RemoveRequested(Event, frozen=True, kw_only=True):
    """Forget an ended job."""

    job: int


class DaemonStarted(Event, frozen=True, kw_only=True):
    """The first event of a daemon's life: what it remembers has to be found out anew."""

    machine: Machine


class AttemptStarted(Event, frozen=True, kw_only=True):
    """The shim runs. Told again, of the same attempt, after a restart of the daemon."""

    job: int
    attempt: int
    resumed_from: str | None = None


class Progressed(Event, frozen=True, kw_only=True):
    """The job reported a step or an epoch; at most one a second and job. `position` grows as training
    moves on, and is the same number at the same place in another attempt."""

    job: int
    attempt: int
    position: float | None = None


class HangFound(Event, frozen=True, kw_only=True):
    """The attempt stands still; `message` says since when, and where its ranks are."""

    job: int
    attempt: int
    message: str


class LossNotFinite(Event, frozen=True, kw_only=True):
    """The attempt reported a loss that is NaN or infinite; `message` says which, and where."""

    job: int
    attempt: int
    message: str


class Noted(Event, frozen=True, kw_only=True):
    """Something to remember of a job that decides nothing: a checkpoint was saved, say."""

    job: int
    type: str
    message: str
    data: dict[str, Any] = {}


class AttemptEnded(Event, frozen=True, kw_only=True):
    """`position`: the furthest that it has reported, as in `Progressed`. `jitter` is a random number in
    [0, 1) for the backoff."""

    job: int
    attempt: int
    end: AttemptEnd
    position: float | None = None
    jitter: float = 0.0


class LeaseReleased(Event, frozen=True, kw_only=True):
    """Nothing of the attempt is left, but for the GPUs in `stuck` (UUID → reason)."""

    job: int
    attempt: int
    stuck: dict[str, str] = {}


class DevicesObserved(Event, frozen=True, kw_only=True):
    """The whole inventory, told when something in it changed. `set_aside` and `drained` are the core's
    own. A device that is not in it and not leased is forgotten."""

    devices: tuple[Device, ...]


class GpuFaulted(Event, frozen=True, kw_only=True):
    """The GPU cannot be trusted any more. Who holds it keeps it; it is not given out again."""

    uuid: str
    message: str


class DrainRequested(Event, frozen=True, kw_only=True):
    uuid: str
    reason: str = "drained"


class UndrainRequested(Event, frozen=True, kw_only=True):
    """Offers a drained or set-aside GPU again."""

    uuid: str


class RoomChanged(Event, frozen=True, kw_only=True):
    """The state folder's disk has become too full for jobs, or has room again."""

    room: bool


class SettingsChanged(Event, frozen=True, kw_only=True):
    """`patience`: seconds a job may be passed before what comes free is kept for it."""

    patience: float


class ClockSet(Event, frozen=True, kw_only=True):
    """The machine's clock was set forward by so many seconds (back, if negative); `time` is after that."""

    by: float


class DatabaseMended(Event, frozen=True, kw_only=True):
    """What is kept was damaged, and has been written anew; `message` says where, and what was lost."""

    message: str


class TimePassed(Event, frozen=True, kw_only=True):
    """The moment that `core.machine.next_wakeup` asked for."""


# ---------------------------------------------------------------- changes


class JobChanged(Message, frozen=True, kw_only=True):
    job: Job


class JobAdded(Message, frozen=True, kw_only=True):
    """`key` is the submission's (`NewJob.key`)."""

    job: Job
    key: str


class SubmissionChanged(Message, frozen=True, kw_only=True):
    """The job's submission is to be replaced by the one under `key`."""

    job: int
    key: str


class JobRemoved(Message, frozen=True, kw_only=True):
    job: int


class LeaseChanged(Message, frozen=True, kw_only=True):
    lease: Lease


class LeaseEnded(Message, frozen=True, kw_only=True):
    job: int


class AttemptChanged(Message, frozen=True, kw_only=True):
    attempt: Attempt


class DeviceChanged(Message, frozen=True, kw_only=True):
    device: Device


class DeviceRemoved(Message, frozen=True, kw_only=True):
    uuid: str


class MachineChanged(Message, frozen=True, kw_only=True):
    machine: Machine


class PatienceChanged(Message, frozen=True, kw_only=True):
    patience: float


class Happened(Message, frozen=True, kw_only=True):
    """A line of history. `type` is past tense in snake_case, `message` a sentence for people."""

    time: float
    type: str
    message: str
    job: int | None = None
    data: dict[str, Any] = {}


Change = (
    JobAdded
    | JobChanged
    | SubmissionChanged
    | JobRemoved
    | LeaseChanged
    | LeaseEnded
    | AttemptChanged
    | DeviceChanged
    | DeviceRemoved
    | MachineChanged
    | PatienceChanged
    | Happened
)


# ---------------------------------------------------------------- effects


class Effect(Message, frozen=True, kw_only=True):
    """An order. Doing it twice does no harm: it is keyed by the attempt."""

    job: int
    attempt: int


class StartAttempt(Effect, frozen=True, kw_only=True):
    """Answered by `AttemptStarted` or `AttemptEnded`. Given again after a restart: a shim that
    already runs is adopted, a status already written is read."""

    gpus: tuple[str, ...]
    cpu: int
    memory: int


class AdoptAttempt(Effect, frozen=True, kw_only=True):
    """Find what a former daemon started. Answered as `StartAttempt`; starts nothing."""


class StopAttempt(Effect, frozen=True, kw_only=True):
    """TERM, `grace` seconds, KILL. Answered by `AttemptEnded`."""

    grace: float


class ReleaseLease(Effect, frozen=True, kw_only=True):
    """See to it that nothing of the attempt is left. Answered by `LeaseReleased`."""

    gpus: tuple[str, ...]


class RemoveFiles(Effect, frozen=True, kw_only=True):
    """Delete the folder of a job that was removed. Not answered."""


# ---------------------------------------------------------------- replies


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The event was taken; `jobs` are the ids it made or touched."""

    jobs: tuple[int, ...] = ()


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """The event changed nothing. `code` is one of `trainforge.api.ErrorCode`."""

    code: str
    message: str
    path: str | None = None


Reply = Accepted | Refused
