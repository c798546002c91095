"""What the HTTP API needs from the daemon, and nothing more.

The web layer checks the form of a request (`trainforge.api`) and bounds its size and rate; the
service decides and answers. A method that refuses raises `ApiProblem` and has changed nothing;
any other exception becomes a 500 with an id that is logged. A method that changes something
returns only after the change is on disk. All run on the daemon's event loop and must not block it.

A request's handler is not cancelled when its client goes away, except that a follower of a log
is closed (`aclose`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Literal, Protocol

import msgspec

from trainforge.api import (
    CancelRequest,
    DiskAnswer,
    EventList,
    GpuList,
    GpuView,
    JobList,
    JobView,
    MetricsAnswer,
    PathAnswer,
    PruneAnswer,
    PruneRequest,
    RemoveRequest,
    RetryRequest,
    Series,
    StatusAnswer,
    SubmitRequest,
    UpdateRequest,
)
from trainforge.api.report import ReportAnswer
from trainforge.states import JobState
from trainforged.web.insight import Insight
from trainforged.web.live import Live


class JobFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs, and which page of them. `name` may be a glob pattern; no states means all."""

    states: tuple[JobState, ...] = ()
    user: str | None = None
    name: str | None = None
    limit: int = 100
    cursor: str | None = None  # a `JobList.next`; a made-up one is refused (invalid_request)


class LogFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which output. `rank` of None is the merged output; `tail` counts lines, None is all of it."""

    attempt: int | Literal["latest", "all"] = "latest"
    rank: int | None = None
    tail: int | None = None
    follow: bool = False


class MetricsFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which series (no names: all) and how much of them: after `since`, up to `until` (seconds since
    the epoch)."""

    names: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    points: int = 1000
    rank: int = 0


class PointsFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of which series: the first `limit` points after the place `after` (attempt, number)."""

    name: str
    rank: int = 0
    after: tuple[int, int] | None = None
    limit: int = 10_000


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What Prometheus is told beside status and GPUs. Counts are since the daemon started."""

    waiting: dict[str, int] = {}  # jobs by what they wait for
    longest_wait: float = 0.0  # of those that wait for resources
    starts: int = 0  # first starts of jobs
    waited: float = 0.0  # before them, in all
    events: dict[str, int] = {}  # by type
    wasting: int = 0  # jobs that hold GPUs and do not use them
    notices: int = 0  # that have not arrived
    cpu: float = 0.0  # seconds, of the daemon's process
    memory: int = 0
    descriptors: int = 0
    process_started: float = 0.0


class Memory(Protocol):
    """Answers as `Service` gives them, without waiting for anything; None where that cannot be, and the
    service itself has to be asked. May raise what it raises."""

    def status(self) -> StatusAnswer: ...

    def gpus(self) -> GpuList | None: ...

    def job(self, job: int) -> JobView | None:
        """Also None where there is no such job."""

    def jobs(self, which: JobFilter) -> JobList | None: ...

    def events(self, after: int, limit: int) -> EventList | None:
        """Of all jobs."""


class Service(Protocol):
    """The daemon, as its HTTP API sees it.

    A method that takes a job's id raises `no_such_job` where it does not exist, unless it says
    otherwise.
    """

    @property
    def live(self) -> Live:
        """Where the daemon publishes what happens; event streams read it."""

    @property
    def memory(self) -> Memory:
        """What can be answered at once."""

    @property
    def insight(self) -> Insight:
        """What the page shows beyond jobs as they are."""

    # ------------------------------------------------------------ jobs

    async def submit(self, requests: Sequence[SubmitRequest]) -> tuple[JobView, ...]:
        """Accept all of them, or none; the jobs come back in the order of the requests.

        A `request_id` that was accepted before gives that job again. At least one request.
        """

    async def job(self, job: int) -> JobView | None:
        """The job whole, with attempts and spec; None where there is none."""

    async def jobs(self, which: JobFilter) -> JobList:
        """One page; newest first, with only `queued` asked for in the order they will start."""

    async def cancel(self, job: int, request: CancelRequest) -> JobView:
        """Returns once the order is on disk, not once the job has ended. Of an ended job: a conflict."""

    async def hold(self, job: int) -> JobView: ...

    async def release(self, job: int) -> JobView: ...

    async def update(self, job: int, request: UpdateRequest) -> JobView: ...

    async def retry(self, job: int, request: RetryRequest) -> JobView:
        """The new job; the same one for a `request_id` that was accepted before."""

    async def remove(self, job: int, request: RemoveRequest) -> JobView:
        """Forget an ended job and its files; returns it as it was."""

    async def prune(self, request: PruneRequest) -> PruneAnswer: ...

    async def path(self, job: int) -> PathAnswer: ...

    # ------------------------------------------------------------ what jobs say

    async def logs(self, job: int, which: LogFilter) -> AsyncGenerator[bytes, None]:
        """Awaiting it finds the output, or refuses; iterating gives it in chunks of at most 64 KiB.

        With `follow` it ends when the job has ended and all is given. It is pulled: a reader that
        is slow costs no memory. It is always closed.
        """

    async def metrics(self, job: int, which: MetricsFilter) -> MetricsAnswer: ...

    async def points(self, job: int, which: PointsFilter) -> tuple[Series, tuple[int, int] | None]:
        """A part of a series, none of it left out, and the place of its last point where there may be more.
        Of a series that does not exist: not_found."""

    async def events(self, after: int, job: int | None, limit: int) -> EventList:
        """Committed events with an id above `after`, oldest first. Of a job that does not exist: none."""

    # ------------------------------------------------------------ contents of files

    async def missing(self, hashes: Sequence[str]) -> tuple[str, ...]:
        """Those of `hashes` (well-formed) whose contents are not stored."""

    async def put_file(self, sha256: str, chunks: AsyncIterator[bytes]) -> None:
        """Store one content durably. One that does not have this hash is refused (invalid_request).

        `chunks` may raise `ApiProblem` (too large, too slow, cut off); let it pass through. It may
        be left unread, where the content is stored already.
        """

    # ------------------------------------------------------------ the machine

    async def gpus(self, history: float | None = None) -> GpuList:
        """The devices; with their last `history` seconds where given."""

    async def drain(self, uuid: str, reason: str | None) -> GpuView:
        """Give this GPU out no more. An unknown one: not_found."""

    async def undrain(self, uuid: str) -> GpuView: ...

    async def status(self) -> StatusAnswer: ...

    async def figures(self) -> Figures: ...

    async def report(self, since: float) -> ReportAnswer:
        """What GPUs were held for since this moment (seconds since the epoch)."""

    async def disk(self) -> DiskAnswer: ...
