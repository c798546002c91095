"""What happened: events, and what the live stream carries beside them."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec

from trainforge.api.jobs import Progress, Usage


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened. `id` grows by one at a time in order of commit."""

    id: int
    time: datetime.datetime
    type: str  # past tense, snake_case: job_submitted, attempt_started, gpu_set_aside …
    job: int | None
    message: str  # a sentence
    data: dict[str, Any] = {}


class EventList(msgspec.Struct, frozen=True, kw_only=True):
    """`next` is the `after` of the next page, null when nothing newer is there."""

    events: tuple[EventView, ...]
    next: int | None = None


class JobProgress(msgspec.Struct, frozen=True, kw_only=True):
    """The data of the stream's `progress` events: the latest of one running job. They have no id
    and are not kept."""

    job: int
    progress: Progress | None = None
    usage: Usage | None = None
