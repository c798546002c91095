"""Files of jobs: where they lie, what they cost, and the orders that remove them."""

from __future__ import annotations

import datetime
from typing import Annotated

import msgspec

from trainforge.states import JobState


class RemoveRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`DELETE /v1/jobs/{id}` body (optional). `keep` = "best" keeps that checkpoint."""

    keep: str | None = None


class PruneRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/prune`: remove jobs that ended longer ago than this many seconds."""

    older_than: Annotated[float, msgspec.Meta(ge=0)]
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
