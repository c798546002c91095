"""`GET /v1/report`: what GPUs were held for.

All `…_seconds` are GPU-seconds: two GPUs held for a second are two.
"""

from __future__ import annotations

import datetime

import msgspec


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """A user, or a project (the name of its jobs)."""

    name: str
    jobs: int
    gpu_seconds: float
    busy_seconds: float
    idle_seconds: float
    unmeasured_seconds: float
    lost_seconds: float
    won_seconds: float


class JobAccount(msgspec.Struct, frozen=True, kw_only=True):
    """One job: what it held, and what it made of it. What it asked for stands beside what it used;
    `mean_utilization` is in per cent; null where nothing was measured."""

    job: int
    name: str
    user: str
    gpus: int  # in its newest attempt
    attempts: int
    running: bool
    gpu_seconds: float
    busy_seconds: float  # by use: a GPU used half for two seconds was busy for one
    idle_seconds: float  # held, and used for less than 5 % (`waste.below`)
    unmeasured_seconds: float  # the daemon was away, or the device cannot say
    mean_utilization: float | None
    gpu_memory: int  # bytes that its GPUs have together
    mean_gpu_memory: float | None
    peak_gpu_memory: int
    cpu: int  # cores that it has
    mean_cpu: float | None
    memory: int | None  # bytes of host memory that it asked for
    peak_memory: int
    lost_seconds: float  # thrown away by crashes: from the last checkpoint to the end
    won_seconds: float  # not done again, since retries resumed
    waste: str | None = None  # what it wastes now, as a sentence


class ReportAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Since the beginning of the hour in which `since` lies; jobs with the most GPU-seconds first."""

    since: datetime.datetime
    until: datetime.datetime
    gpu_seconds: float
    busy_seconds: float
    idle_seconds: float
    unmeasured_seconds: float
    free_seconds: float  # held by nobody, while the daemon ran
    lost_seconds: float
    won_seconds: float
    users: tuple[Group, ...]
    projects: tuple[Group, ...]
    jobs: tuple[JobAccount, ...]  # at most 1000
