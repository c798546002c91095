"""What the page shows beyond jobs as they are: incidents, histories, comparisons.

Nothing here changes anything. A method that takes a job's id raises `no_such_job` where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from trainforge.api.page import Checkpoints, Comparison, Differences, FoundLines, Incident, SpecAnswer


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

    async def compare(self, jobs: Sequence[int]) -> Comparison: ...

    async def search(self, job: int, which: LineFilter) -> FoundLines: ...
