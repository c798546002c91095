"""What the page shows beyond jobs as they are: incidents, histories, comparisons.

Nothing here changes anything. A method that takes a job's id raises `no_such_job` where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from trainforge.api.page import (
    Checkpoints,
    Comparison,
    Differences,
    FoundLines,
    GpusHistory,
    GpusTimeline,
    Incident,
    JobHistory,
    SpecAnswer,
)


class LineFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines of output: the first `limit` that contain `text`, without regard to case."""

    text: str
    attempt: int | Literal["latest", "all"] = "latest"
    rank: int | None = None
    limit: int = 200


class Insight(Protocol):
    """The daemon, as the page sees into it."""

    async def incident(self, job: int) -> Incident: ...

    async def spec(self, job: int) -> SpecAnswer: ...

    async def differences(self, job: int, other: int | None) -> Differences:
        """Against `other`, or the job before it of the same name and user."""

    async def checkpoints(self, job: int) -> Checkpoints: ...

    async def compare(self, jobs: Sequence[int], metrics: bool) -> Comparison: ...

    async def gpus_history(self, since: float | None, until: float | None, points: int) -> GpusHistory:
        """Seconds since the epoch; without them, the last ten minutes."""

    async def gpus_timeline(self, since: float | None, until: float | None) -> GpusTimeline:
        """Without times, the last day."""

    async def job_history(self, job: int, since: float | None, points: int) -> JobHistory:
        """Without a time, from its first attempt on."""

    async def search(self, job: int, which: LineFilter) -> FoundLines: ...
