"""What the view knows of the daemon, put together from messages. It asks nobody.

`Known` belongs to one thread; the messages are made by others and never change.
"""

from __future__ import annotations

import datetime
from collections import deque
from collections.abc import Sequence
from itertools import islice

import msgspec

from tfctl.top.trail import Trails
from trainforge.api import EventView, GpuList, JobProgress, JobView, MetricsAnswer, StatusAnswer
from trainforge.states import JobState

EVENTS = 200  # the newest, kept for tall screens
NAMES = 2000  # of jobs, kept for events
LATELY = datetime.timedelta(minutes=10)  # how long a job stays in the view after its end


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """Answers to one look at the jobs. `waiting` is in the order they will start, as far as asked for."""

    at: float
    status: StatusAnswer
    live: tuple[JobView, ...]
    waiting: tuple[JobView, ...]
    ended: tuple[JobView, ...]


class Began(msgspec.Struct, frozen=True, kw_only=True):
    """What was there before the stream."""

    at: float
    gpus: GpuList  # with history
    events: tuple[EventView, ...]


class GpusSeen(msgspec.Struct, frozen=True, kw_only=True):
    at: float
    gpus: GpuList


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A sentence for the person at the keys: what came of an order."""

    at: float
    text: str
    bad: bool = False


class Away(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon went away at `since`; None: it is there."""

    since: datetime.datetime | None


class CurvesSeen(msgspec.Struct, frozen=True, kw_only=True):
    """Series of the job whose curves are looked at."""

    answer: MetricsAnswer


Message = Looked | Began | GpusSeen | Notice | Away | CurvesSeen | EventView | JobProgress


class Known:
    """Reading is free: nothing here is computed but what a message changes."""

    def __init__(self) -> None:
        self.gpus: GpuList | None = None
        self.trails = Trails()
        self.looked: Looked | None = None
        self.jobs: dict[int, JobView] = {}  # of the latest look, with their progress since
        self.names: dict[int, str] = {}  # also of jobs that are not looked at any more
        self.events: deque[EventView] = deque(maxlen=EVENTS)  # oldest first
        self.curves: MetricsAnswer | None = None
        self.notice: Notice | None = None
        self.away_since: datetime.datetime | None = None

    def take(self, message: Message) -> None:
        match message:
            case GpusSeen(at=at, gpus=gpus):
                self.gpus = gpus
                self.trails.add(gpus, at)
            case JobProgress():
                self._progress(message)
            case EventView():
                if self.events and message.id <= self.events[-1].id:
                    self.events.clear()  # no event comes twice: this is another database's
                self.events.append(message)
            case Looked():
                self.looked = message
                every = (*message.live, *message.waiting, *message.ended)
                self.jobs = {job.id: job for job in every}
                self.names = dict(islice(self.names.items(), max(0, len(self.names) - NAMES), None))
                self.names |= {job.id: job.name for job in every}
            case Began():
                self.gpus = message.gpus
                self.trails.fill(message.gpus, message.at)
                self.events = deque(message.events, maxlen=EVENTS)
            case CurvesSeen():
                self.curves = message.answer
            case Notice():
                self.notice = message
            case Away():
                self.away_since = message.since

    def _progress(self, news: JobProgress) -> None:
        job = self.jobs.get(news.job)
        if job is not None:
            self.jobs[news.job] = msgspec.structs.replace(
                job, progress=news.progress or job.progress, usage=news.usage or job.usage
            )

    # ---- the jobs of the latest look

    @property
    def live(self) -> list[JobView]:
        return self._now(self.looked.live if self.looked is not None else ())

    @property
    def waiting(self) -> list[JobView]:
        """In the order they will start, then those in backoff and those held."""
        return self._now(self.looked.waiting if self.looked is not None else ())

    def ended(self, now: datetime.datetime) -> list[JobView]:
        """Those that ran and ended lately, the newest first."""
        found = self._now(self.looked.ended if self.looked is not None else ())
        lately = [job for job in found if job.attempt and job.ended_at and job.ended_at > now - LATELY]
        return sorted(lately, key=lambda job: (job.ended_at, job.id), reverse=True)

    @property
    def waiting_in_all(self) -> int:
        """Also those that were not asked for."""
        if self.looked is None:
            return 0
        counts = self.looked.status.jobs
        return max(counts.queued + counts.held + counts.backoff, len(self.looked.waiting))

    def elapsed(self, job: JobView, now: float) -> float:
        """Seconds that the job has been running."""
        if self.looked is None or job.state not in (JobState.RUNNING, JobState.STOPPING):
            return job.elapsed
        return job.elapsed + now - self.looked.at

    def _now(self, jobs: Sequence[JobView]) -> list[JobView]:
        return [self.jobs[job.id] for job in jobs]
