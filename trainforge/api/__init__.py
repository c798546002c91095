"""Requests, answers and error codes of the HTTP API, as types.

Times are aware datetimes (RFC 3339 UTC in JSON), durations seconds, sizes bytes.
`GET /v1/openapi.json` is made from these.
"""

from __future__ import annotations

import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec

from trainforge.states import JobState

NotFinite = Literal["NaN", "Infinity", "-Infinity"]
Value = float | NotFinite  # what JSON has no number for is named


class ErrorCode(StrEnum):
    """`error.code` of an answer that is not 2xx, with the HTTP status it comes with."""

    INVALID_SPEC = "invalid_spec"  # 422
    INVALID_REQUEST = "invalid_request"  # 400
    NOT_SIGNED_IN = "not_signed_in"  # 401, on the web port
    FORBIDDEN = "forbidden"  # 403, on the web port
    NOT_FOUND = "not_found"  # 404
    NO_SUCH_JOB = "no_such_job"  # 404
    METHOD_NOT_ALLOWED = "method_not_allowed"  # 405, with Allow
    TIMEOUT = "timeout"  # 408: the request came too slowly
    CONFLICT = "conflict"  # 409: the job's state does not allow it
    MISSING_FILES = "missing_files"  # 409: contents named in `files` were not uploaded
    TOO_LARGE = "too_large"  # 413
    TOO_MANY = "too_many"  # 429, with Retry-After
    NOT_YET = "not_yet"  # 501
    NO_SPACE = "no_space"  # 507: the disk is full; nothing was accepted
    INTERNAL = "internal"  # 500
    UNAVAILABLE = "unavailable"  # 503: the daemon is starting or stopping


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One mistake in what was sent. `line` is known for job files only."""

    path: str
    message: str
    file: str | None = None
    line: int | None = None


class Error(msgspec.Struct, frozen=True, kw_only=True):
    code: ErrorCode
    message: str
    details: tuple[ErrorDetail, ...] = ()


class ErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    error: Error


class Git(msgspec.Struct, frozen=True, kw_only=True):
    """The commit that the project stood at, and whether it had changes beside it."""

    commit: str
    dirty: bool


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a frozen project. A symbolic link has `target` in place of `sha256`."""

    path: str  # relative, "/" between parts, no ".." and no leading "/"
    sha256: str | None = None  # 64 lower-case hex digits
    mode: int = 0o644  # permission bits
    size: int = 0
    target: str | None = None


class ShellState(msgspec.Struct, frozen=True, kw_only=True):
    """What the job takes over from the shell that submitted it. It holds secrets: never answered."""

    env: dict[str, str] = {}
    python: str | None = None  # absolute path of the interpreter for `python: current`
    cwd: str | None = None  # becomes TRAINFORGE_SUBMIT_DIR
    root: str | None = None  # the project's root, for `project.link`


class JobRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes a job. Exactly one of `workdir` and `files` is given.

    `spec` has the job file's form and is checked by the daemon (`trainforge.jobfile.checks`).
    """

    spec: dict[str, Any]
    workdir: str | None = None
    files: tuple[FileEntry, ...] | None = None
    shell: ShellState = ShellState()
    git: Git | None = None
    hold: bool = False
    resume_from: int | None = None  # id of the job whose newest checkpoint is the start


class SubmitRequest(JobRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/jobs`: one of these or a list."""

    request_id: str


class SweepJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One job of a sweep. `spec` is laid over the sweep's as a JSON merge patch (RFC 7396)."""

    request_id: str
    spec: dict[str, Any] = {}


class SweepRequest(JobRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/sweeps`: many jobs that share files, shell and most of their `spec`."""

    jobs: Annotated[tuple[SweepJob, ...], msgspec.Meta(min_length=1, max_length=10_000)]


class MissingRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/files/missing`."""

    files: tuple[str, ...]  # sha256


class MissingAnswer(msgspec.Struct, frozen=True, kw_only=True):
    missing: tuple[str, ...]


class CancelRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/jobs/{id}/cancel`. `now` leaves no grace."""

    now: bool = False


class RetryRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/jobs/{id}/retry`: a new job. `spec` replaces the old one's, where given whole;
    `files` its frozen project (code: current)."""

    request_id: str
    spec: dict[str, Any] | None = None
    checkpoint: str = "newest"  # newest | best | none
    files: tuple[FileEntry, ...] | None = None
    shell: ShellState | None = None
    git: Git | None = None


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
    description: str = ""
    base_image: str | None = None
    root: str | None = None  # the folder that a frozen project was taken from; of one job only
    attempts: tuple[AttemptView, ...] | None = None
    spec: dict[str, Any] | None = None


class JobList(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/jobs`: newest first (with `state=queued`: in the order they will start).
    `next` is the `cursor` of the next page, null at the end."""

    jobs: tuple[JobView, ...]
    next: str | None = None


class GpuProcess(msgspec.Struct, frozen=True, kw_only=True):
    pid: int
    memory: int | None
    kind: str  # compute | graphics
    name: str | None = None
    user: str | None = None


class GpuHistory(msgspec.Struct, frozen=True, kw_only=True):
    """The last while of one GPU, oldest first; the columns have the same length and end now.
    Units as in `GpuView`; null where nothing was measured."""

    every: float  # seconds between two values
    utilisation: tuple[int | None, ...]
    memory: tuple[int | None, ...]
    temperature: tuple[int | None, ...]
    power: tuple[float | None, ...]


class GpuView(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU. Utilisation 0 … 100, temperature °C, power W; null where the device cannot say."""

    uuid: str
    index: int
    name: str
    pci: str | None
    memory_total: int
    memory_used: int | None
    utilisation: int | None
    temperature: int | None
    power: float | None
    power_limit: float | None
    processes: tuple[GpuProcess, ...]
    state: str  # free | leased | releasing | foreign | set_aside | drained | excluded
    reason: str | None  # for foreign, set_aside, drained, excluded
    job: int | None
    simulated: bool
    history: GpuHistory | None = None  # with `?history=SECONDS`


class GpuList(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/gpus`, and the data of the stream's `gpus` events (without history)."""

    gpus: tuple[GpuView, ...]
    problem: str | None = None  # why there are none, or none that can be read


class DrainRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/gpus/{uuid}/drain` body (optional)."""

    reason: str | None = None


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened. `id` grows by one at a time in order of commit."""

    id: int
    time: datetime.datetime
    type: str  # past tense, snake_case: job_submitted, attempt_started, gpu_set_aside …
    job: int | None
    message: str  # a sentence
    data: dict[str, Any] = {}


class JobProgress(msgspec.Struct, frozen=True, kw_only=True):
    """The data of the stream's `progress` events: the latest of one running job. They have no id
    and are not kept."""

    job: int
    progress: Progress | None = None
    usage: Usage | None = None


class EventList(msgspec.Struct, frozen=True, kw_only=True):
    """`next` is the `after` of the next page, null when nothing newer is there."""

    events: tuple[EventView, ...]
    next: int | None = None


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One reported series, oldest first; all columns have the same length. Superseded points are left out."""

    name: str
    step: tuple[float, ...]
    time: tuple[float, ...]  # seconds since the epoch
    value: tuple[Value, ...]
    attempt: tuple[int, ...]
    epoch: tuple[float | None, ...] = ()

    @property
    def numbers(self) -> tuple[float | None, ...]:
        """The values; None for what is not finite."""
        return tuple(None if isinstance(value, str) else value for value in self.value)


class MetricsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Series of one rank; `ranks` are those that have reported any."""

    job: int
    series: tuple[Series, ...]
    rank: int = 0
    ranks: tuple[int, ...] = ()


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs by state."""

    queued: int = 0
    held: int = 0
    starting: int = 0
    running: int = 0
    stopping: int = 0
    backoff: int = 0
    unknown: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0


class GroupsView(msgspec.Struct, frozen=True, kw_only=True):
    """Control groups that the daemon makes: below which folder, and what they limit (`cpu`, `memory`)."""

    folder: str
    limits: tuple[str, ...]


class StatusAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/status`."""

    version: str
    pid: int
    started_at: datetime.datetime
    uptime: float
    user: str
    state_dir: str
    simulated: bool
    jobs: Counts
    gpus_total: int
    gpus_free: int
    cpu_total: int
    cpu_free: int
    memory_total: int
    memory_free: int
    load: tuple[float, float, float]
    disk_free: int
    last_event: int
    project_limit: int = 2 << 30  # bytes of a frozen project
    web: str | None = None  # host:port of the page
    web_problem: str | None = None  # why there is none
    groups: GroupsView | None = None  # what holds an attempt together that has no unit of systemd's


class RemoveRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`DELETE /v1/jobs/{id}` body (optional). `keep` = "best" keeps that checkpoint."""

    keep: str | None = None


class PruneRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/prune`: remove jobs that ended longer ago than this many seconds."""

    older_than: float
    dry_run: bool = False


class PruneAnswer(msgspec.Struct, frozen=True, kw_only=True):
    jobs: tuple[int, ...]
    freed: int  # bytes


class DiskEntry(msgspec.Struct, frozen=True, kw_only=True):
    job: int
    name: str
    state: JobState
    project: int
    checkpoints: int
    logs: int
    total: int


class DiskAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/disk`: bytes on disk, largest job first; `files` are the stored contents."""

    jobs: tuple[DiskEntry, ...]
    files: int
    environments: int
    database: int
    total: int


class CheckpointView(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    step: float | None  # null where the manifest cannot be read
    size: int
    created_at: datetime.datetime
    best: bool = False
    problem: str | None = None  # why it cannot be used


class PathAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/jobs/{id}/path`."""

    dir: str
    project: str
    checkpoints: tuple[CheckpointView, ...]  # oldest first
