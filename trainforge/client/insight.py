"""Beyond jobs as they are: why, over time, side by side. `Client.insight` has it.

    client.insight.incident(12).traceback
    client.insight.compare([12, 14]).settings      # those in which the two differ

Raises as `Client` does. Moments are seconds since the epoch; those not given are the daemon's choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

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

T = TypeVar("T")


class Ask(Protocol):
    """Reads one route."""

    def __call__(self, path: str, query: dict[str, Any], type: type[T]) -> T: ...


class Insight:
    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def incident(self, job: int) -> Incident:
        """Why the job is where it is: cause, evidence, what was tried, what can be done."""
        return self._ask(f"/v1/jobs/{job}/incident", {}, Incident)

    def spec(self, job: int) -> SpecAnswer:
        """The job file as it was understood, and the commit."""
        return self._ask(f"/v1/jobs/{job}/spec", {}, SpecAnswer)

    def differences(self, job: int, other: int | None = None) -> Differences:
        """Settings and files that differ from those of `other`, or of the job before it of the same name."""
        query = {"with": other}
        return self._ask(f"/v1/jobs/{job}/differences", query, Differences)

    def checkpoints(self, job: int) -> Checkpoints:
        """The job's checkpoints, oldest first."""
        return self._ask(f"/v1/jobs/{job}/checkpoints", {}, Checkpoints)

    def search(self, job: int, text: str, *, rank: int | None = None, limit: int = 200) -> FoundLines:
        """Lines of output of the newest attempt that contain `text`, without regard to case."""
        query = {"search": text, "rank": rank, "limit": limit}
        return self._ask(f"/v1/jobs/{job}/logs", query, FoundLines)

    def history(self, job: int, *, since: float | None = None, points: int = 600) -> JobHistory:
        """What the job used over time, and its GPUs while it held them."""
        query = {"since": since, "points": points}
        return self._ask(f"/v1/jobs/{job}/history", query, JobHistory)

    def compare(self, jobs: Sequence[int], *, metrics: bool = True) -> Comparison:
        """The settings in which the jobs differ, and the last and best values of their series, where these
        are wanted."""
        query = {"jobs": list(jobs), "metrics": None if metrics else "false"}
        return self._ask("/v1/compare", query, Comparison)

    def gpus_history(
        self, *, since: float | None = None, until: float | None = None, points: int = 600
    ) -> GpusHistory:
        """What each GPU did over time."""
        query = {"since": since, "until": until, "points": points}
        return self._ask("/v1/gpus/history", query, GpusHistory)

    def gpus_timeline(self, *, since: float | None = None, until: float | None = None) -> GpusTimeline:
        """What each GPU was taken by over time."""
        query = {"since": since, "until": until}
        return self._ask("/v1/gpus/timeline", query, GpusTimeline)
