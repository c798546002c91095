"""Events: facts in the past tense, that the core is told. Times (s since the epoch) ride on them."""

from __future__ import annotations

from typing import Any

import msgspec

from trainforge.spec import Recovery, Resources, Schedule
from trainforged.core.messages.base import Message
from trainforged.core.messages.remembered import AttemptEnd, Device, Machine


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
    label: str = ""
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
    label: str | None = None


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


class GpuCleared(Event, frozen=True, kw_only=True):
    """What the GPU was set aside for, `reason`, is over: its memory has come back."""

    uuid: str
    reason: str


class DrainRequested(Event, frozen=True, kw_only=True):
    uuid: str
    reason: str = "drained"


class UndrainRequested(Event, frozen=True, kw_only=True):
    """Offers a drained or set-aside GPU again."""

    uuid: str


class RoomChanged(Event, frozen=True, kw_only=True):
    """The state folder's disk has become too full for jobs, or has room again."""

    room: bool


class RoomFound(Event, frozen=True, kw_only=True):
    """The disk has what the job waits for (`Job.room`)."""

    job: int


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
