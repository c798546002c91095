"""Jobs as the API shows them, and the orders that stop or change one."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec

from trainforge.api.submissions import Git
from trainforge.states import JobState


class CancelRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/jobs/{id}/cancel`. `now` leaves no grace."""

    now: bool = False


class UpdateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`PATCH /v1/jobs/{id}`: key paths of the job file and their new values.

    While a job waits: `schedule.*`, `resources.*`, `recovery.*`, `environment.env.*`,
    `project.description`. While it runs: `schedule.priority`, `schedule.time_limit`, `recovery.*`.
    """

    set: dict[str, Any]


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """The latest that a job reported, with what follows from it."""

    step: int | float | None = None
    steps: int | float | None = None
    epoch: int | float | None = None
    epochs: int | float | None = None
    eta: float | None = None  # seconds left, from the measured rate
    fraction: float | None = None  # 0 … 1
    metrics: dict[str, float | None] = {}  # null stands for NaN or infinity
    phase: str | None = None
    time: datetime.datetime | None = None


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What the processes of a running attempt use now; bytes read and written since it started.

    `received` and `sent` are bytes over TCP since the daemon has seen the attempt, what its ranks send each
    other on this machine included; null: not known here."""

    cpu: float = 0.0  # cores
    memory: int = 0
    read: int = 0
    written: int = 0
    received: int | None = None
    sent: int | None = None
    processes: int = 0


class Waste(msgspec.Struct, frozen=True, kw_only=True):
    """A running job holds GPUs that it does not use. `mean_utilization` is in per cent; `sentence` follows
    on "job 12"."""

    since: datetime.datetime
    mean_utilization: float
    sentence: str


class ResourceView(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for; defaults are filled in with the machine's."""

    gpu: int | str
    cpu: int
    memory: int | None


class RankView(msgspec.Struct, frozen=True, kw_only=True):
    """How one rank of an attempt ended."""

    rank: int
    pid: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None  # "ValueError: …"
    traceback: str | None = None


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """One start of a job."""

    number: int
    gpus: tuple[str, ...]  # UUIDs
    started_at: datetime.datetime
    ended_at: datetime.datetime | None = None
    reason: str | None = None  # why it ended (EndReason)
    exit_code: int | None = None
    signal: int | None = None
    message: str | None = None  # the evidence
    failed_rank: int | None = None  # the rank to look at: the first that failed of itself
    tail: str | None = None  # the last that it, or the command, wrote, where it left no exception
    ranks: tuple[RankView, ...] = ()
    resumed_from: str | None = None  # checkpoint folder
    followed: str | None = None  # what was done about its end, or why nothing was


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job as the API shows it. Lists leave `attempts` and `spec` out (null)."""

    id: int
    name: str
    user: str
    state: JobState
    reason: str | None
    priority: int
    submitted_at: datetime.datetime
    started_at: datetime.datetime | None
    ended_at: datetime.datetime | None
    resources: ResourceView
    gpus: tuple[str, ...]
    gpu_indices: tuple[int, ...]
    attempt: int
    retries: int
    exit_code: int | None
    git: Git | None
    progress: Progress | None
    usage: Usage | None
    why: str  # the reason as a sentence
    dir: str  # the job's folder
    elapsed: float  # seconds in attempts so far
    time_limit: float | None = None
    waste: Waste | None = None
    label: str = ""  # what sets it apart from others of its name: "LEARNING_RATE=0.1 SEED=2"
    description: str = ""
    base_image: str | None = None
    root: str | None = None  # the folder that a frozen project was taken from; of one job only
    workdir: str | None = None  # of a job that runs in place: where; of one job only
    attempts: tuple[AttemptView, ...] | None = None
    spec: dict[str, Any] | None = None


class JobList(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/jobs`: newest first (with `state=queued`: in the order they will start).
    `next` is the `cursor` of the next page, null at the end."""

    jobs: tuple[JobView, ...]
    next: str | None = None
