"""What the fake service shows the page: little, and always the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trainforge.api import JobView
from trainforge.api.page import (
    Checkpoints,
    Comparison,
    Differences,
    FoundLine,
    FoundLines,
    GpusHistory,
    GpusTimeline,
    Incident,
    JobHistory,
    SpecAnswer,
)
from trainforged.web.insight import LineFilter


class FakeInsight:
    """`find` gives a job, or raises."""

    def __init__(self, find: Callable[[int], JobView]) -> None:
        self._find = find

    async def incident(self, job: int) -> Incident:
        found = self._find(job)
        return Incident(
            job=job, state=found.state, reason=None, sentence=found.why, cause=None, evidence=(), rank=None,
            traceback=None, last_metrics={"loss": "NaN"}, last_progress=None, stacks=(), tried=(), advice=(),
            events=(),
        )  # fmt: skip

    async def spec(self, job: int) -> SpecAnswer:
        name = self._find(job).name
        return SpecAnswer(spec={"project": {"name": name}}, git=None, workdir="/w", project="/p", root=None)

    async def differences(self, job: int, other: int | None) -> Differences:
        self._find(job)
        return Differences(with_=other, rows=())

    async def checkpoints(self, job: int) -> Checkpoints:
        self._find(job)
        return Checkpoints(checkpoints=())

    async def compare(self, jobs: Sequence[int], metrics: bool) -> Comparison:
        return Comparison(jobs=tuple(map(self._find, jobs)), settings=(), metrics=())

    async def gpus_history(self, since: float | None, until: float | None, points: int) -> GpusHistory:
        return GpusHistory(from_=since or 0.0, to=until or 1.0, step=1.0, gpus=())

    async def gpus_timeline(self, since: float | None, until: float | None) -> GpusTimeline:
        return GpusTimeline(from_=since or 0.0, to=until or 1.0, gpus=())

    async def job_history(self, job: int, since: float | None, points: int) -> JobHistory:
        self._find(job)
        return JobHistory(
            times=(), cpu=(), memory=(), read=(), written=(), received=(), sent=(), gpus=(), attempts=()
        )

    async def search(self, job: int, which: LineFilter) -> FoundLines:
        self._find(job)
        return FoundLines(
            lines=(FoundLine(attempt=1, number=1, rank=which.rank, text=which.text),), more=False
        )
