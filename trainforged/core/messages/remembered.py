"""What the core remembers: jobs, leases, devices, attempts."""

from __future__ import annotations

import msgspec

from trainforge.spec import Recovery, Resources, Schedule
from trainforge.states import EndReason, JobState

NEXT_TO_NOTHING = 1 << 20  # bytes of a disk


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What was free on the disk of `path` when it was not enough, and what has to be before another try."""

    path: str
    free: int  # bytes
    wanted: int

    @property
    def used_up(self) -> bool:
        return self.free < NEXT_TO_NOTHING


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What has to be known of a job to decide about it. The rest of its submission lies in storage."""

    id: int
    name: str
    user: str
    state: JobState
    submitted_at: float
    script: bool  # False: a command, which does not resume
    label: str = ""  # what sets it apart from others of its name
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
    room: Room | None = None  # what it waits for, since it ended for want of it
    room_by: float | None = None  # when it is tried whether there is room or not


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
    unread: bool = False  # missing, but nothing speaks against it: no GPU can be read

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
    full: bool = False  # no room is left on a disk to which it writes, or its words
    room: Room | None = None  # of the disk that it found full, or that has least
    refused: dict[int, str] = {}  # the last of the ranks' words (0: of a command) that the disk refused
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
    followed: str | None = None  # what was done about its end, in words
