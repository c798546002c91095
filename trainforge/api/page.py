"""Answers that the page lives on: history, incidents, comparisons, sessions.

Times of points are seconds since the epoch, which curves are drawn over; all else is as in `trainforge.api`.
"""

from __future__ import annotations

import datetime
from typing import Any, Literal

import msgspec

from trainforge.api import EventView, Git, JobView, Progress, Value


class SignInAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /v1/sign-in`: `address` opens the page, signed in, once and until `expires_at`."""

    code: str
    expires_at: datetime.datetime
    address: str


class SessionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/session`. `expires_at` is null over the socket, which needs no session."""

    user: str
    host: str
    version: str
    expires_at: datetime.datetime | None = None


class GpuSeries(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU's figures; all columns have the same length. Per cent, bytes, °C, W; null is a gap: the device
    could not say, or the daemon was away. Means over a step."""

    uuid: str
    index: int
    name: str
    times: tuple[float, ...]
    utilization: tuple[float | None, ...]
    memory: tuple[float | None, ...]
    memory_total: int
    temperature: tuple[float | None, ...]
    power: tuple[float | None, ...]


class GpusHistory(msgspec.Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """`GET /v1/gpus/history`. `step`: seconds between two points."""

    from_: float
    to: float
    step: float
    gpus: tuple[GpuSeries, ...]


class Span(msgspec.Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """What a GPU was taken by for a while; between spans it was idle. `unknown`: the daemon was away."""

    from_: float
    to: float
    kind: Literal["job", "set_aside", "drained", "foreign", "unknown"]
    job: int | None = None
    name: str | None = None
    attempt: int | None = None
    reason: str | None = None


class GpuLane(msgspec.Struct, frozen=True, kw_only=True):
    uuid: str
    index: int
    name: str
    spans: tuple[Span, ...]


class GpusTimeline(msgspec.Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """`GET /v1/gpus/timeline`."""

    from_: float
    to: float
    gpus: tuple[GpuLane, ...]


class AttemptSpan(msgspec.Struct, frozen=True, kw_only=True):
    attempt: int
    started_at: datetime.datetime
    ended_at: datetime.datetime | None
    reason: str | None


class JobHistory(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/jobs/{id}/history`: cores, bytes, bytes a second; null is a gap. `received` and `sent` are TCP
    alone, and null where it is not known. `gpus` of the times in which the job held them."""

    times: tuple[float, ...]
    cpu: tuple[float | None, ...]
    memory: tuple[float | None, ...]
    read: tuple[float | None, ...]
    written: tuple[float | None, ...]
    received: tuple[float | None, ...]
    sent: tuple[float | None, ...]
    gpus: tuple[GpuSeries, ...]
    attempts: tuple[AttemptSpan, ...]


class RankStack(msgspec.Struct, frozen=True, kw_only=True):
    rank: int
    text: str


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that is over, or runs."""

    attempt: int
    started_at: datetime.datetime
    ended_at: datetime.datetime | None
    reason: str | None
    message: str | None
    resumed_from: str | None
    followed: str | None = None  # what was done about its end, or why nothing was


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/jobs/{id}/incident`: why the job is where it is, whole. `cause` and `evidence` are of the last
    attempt that ended; `rank` failed first of itself."""

    job: int
    state: str
    reason: str | None
    sentence: str
    cause: str | None
    evidence: tuple[str, ...]
    rank: int | None
    traceback: str | None
    last_metrics: dict[str, Value]
    last_progress: Progress | None
    stacks: tuple[RankStack, ...]
    tried: tuple[Tried, ...]
    advice: tuple[str, ...]
    events: tuple[EventView, ...]


class SpecAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/jobs/{id}/spec`: the job file as it was understood. `workdir` is null for a frozen
    project, whose copy is in `project`."""

    spec: dict[str, Any]
    git: Git | None
    workdir: str | None
    project: str
    root: str | None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A setting as text; null where it is not set."""

    path: str
    here: str | None
    there: str | None


class Differences(msgspec.Struct, frozen=True, kw_only=True, rename={"with_": "with"}):
    """`GET /v1/jobs/{id}/differences`; `with` is null where the project has no earlier job."""

    with_: int | None
    rows: tuple[Difference, ...]


class SavedCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    step: float | None
    saved_at: datetime.datetime
    size: int
    best: bool
    whole: bool


class Checkpoints(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/jobs/{id}/checkpoints`, oldest first."""

    checkpoints: tuple[SavedCheckpoint, ...]


class ComparedSetting(msgspec.Struct, frozen=True, kw_only=True):
    """`values` by job number; null where it is not set."""

    path: str
    values: dict[str, str | None]


class LastAndBest(msgspec.Struct, frozen=True, kw_only=True):
    """`best` is the least of what should fall (a loss, an error), the greatest of all else."""

    last: Value
    best: float | None
    best_step: float | None


class ComparedMetric(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    values: dict[str, LastAndBest]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/compare`: only settings that differ."""

    jobs: tuple[JobView, ...]
    settings: tuple[ComparedSetting, ...]
    metrics: tuple[ComparedMetric, ...]


class FoundLine(msgspec.Struct, frozen=True, kw_only=True):
    """`number` counts from 1 over what is kept of the attempt's output."""

    attempt: int
    number: int
    rank: int | None
    text: str


class FoundLines(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/jobs/{id}/logs?search=`; `more`: there are others than these first."""

    lines: tuple[FoundLine, ...]
    more: bool
