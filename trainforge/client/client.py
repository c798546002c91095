"""The daemon's API from Python: one method per route, typed, synchronous.

    from trainforge import Client
    from trainforge.api import SubmitRequest

    with Client() as client:
        job = client.submit(
            SubmitRequest(
                spec={"project": {"name": "hello"}, "training": {"command": ["echo", "hello"]},
                      "resources": {"gpu": 0}},
                request_id="hello-1",          # the same id again is the same job
                workdir="/tmp",
            )
        )
        job = client.wait(job.id)              # until it has ended
        print(job.state, job.why)
        for chunk in client.logs(job.id):
            print(chunk.decode(), end="")

Every method raises NoDaemon when no daemon answers, and ApiError when it refuses. A daemon that
has answered this client before is waited for a few seconds, since it may be restarting; a request
that is lost on the way is sent again where that does no harm. A client is used by one thread at a
time; it is made in no time, and connects with the first call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from trainforge import api
from trainforge.client.http1 import LOST
from trainforge.client.refusals import ApiError, refusal
from trainforge.client.sockets import NoDaemon
from trainforge.client.transport import Answer, Request, Stream, Transport
from trainforge.client.uploads import put_request
from trainforge.states import JobState

__all__ = ["ApiError", "Client", "NoDaemon"]

if TYPE_CHECKING:
    from trainforge.api.page import SignInAnswer
    from trainforge.api.report import ReportAnswer
    from trainforge.client.events import EventStream
    from trainforge.client.insight import Insight

T = TypeVar("T")
SILENCE = 45.0  # seconds: three heartbeats of an event stream
HASHES_AT_ONCE = 50_000
SWEEP = 600.0  # seconds; ten thousand jobs of a large project take a minute


class Client:
    """`socket` None: the daemon is looked for (`trainforge.client.sockets`). Times are in seconds:
    `timeout` for each answer, `patience` for a daemon that has answered before and is away. `on_silence`
    is called with the daemon's pid when an answer is three seconds late."""

    def __init__(
        self,
        socket: str | os.PathLike[str] | None = None,
        timeout: float = 30.0,
        patience: float = 5.0,
        on_silence: Callable[[int], None] | None = None,
    ) -> None:
        path = None if socket is None else Path(socket)
        self._transport = Transport(path, timeout, patience, on_silence)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; another call opens a new one."""
        self._transport.close()

    @property
    def socket(self) -> Path | None:
        """The daemon's socket, once it is known."""
        return self._transport.path

    # ------------------------------------------------------------ jobs

    def submit(self, request: api.SubmitRequest) -> api.JobView:
        """Queue one job. It is on disk when this returns."""
        return self._ask("POST", "/v1/jobs", api.JobView, request)

    def submit_all(self, requests: Sequence[api.SubmitRequest]) -> tuple[api.JobView, ...]:
        """Queue all of them, or none."""
        return self._ask("POST", "/v1/jobs", tuple[api.JobView, ...], requests) if requests else ()

    def submit_sweep(self, request: api.SweepRequest) -> tuple[api.JobView, ...]:
        """Queue jobs that share most, all or none; in the order of `request.jobs`."""
        return self._ask("POST", "/v1/sweeps", tuple[api.JobView, ...], request, timeout=SWEEP)

    def job(self, job: int) -> api.JobView:
        """One job whole, with its attempts and its spec."""
        return self._ask("GET", f"/v1/jobs/{job}", api.JobView)

    def jobs(
        self,
        *,
        states: Iterable[JobState] = (),
        user: str | None = None,
        name: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> api.JobList:
        """One page of jobs; `name` may be a glob pattern, `cursor` is the `next` of another page."""
        state = ",".join(states) or None
        query = {"state": state, "user": user, "name": name, "limit": limit, "cursor": cursor}
        return self._ask("GET", _target("/v1/jobs", query), api.JobList)

    def all_jobs(
        self, *, states: Iterable[JobState] = (), user: str | None = None, name: str | None = None
    ) -> Iterator[api.JobView]:
        """Jobs from all pages."""
        states, cursor = tuple(states), None
        while True:
            page = self.jobs(states=states, user=user, name=name, limit=1000, cursor=cursor)
            yield from page.jobs
            cursor = page.next
            if cursor is None:
                return

    def cancel(self, job: int, *, now: bool = False) -> api.JobView:
        """Stop a job; returns when the order is on disk, not when the job has ended."""
        return self._ask("POST", f"/v1/jobs/{job}/cancel", api.JobView, api.CancelRequest(now=now))

    def hold(self, job: int) -> api.JobView:
        return self._ask("POST", f"/v1/jobs/{job}/hold", api.JobView, again=False)

    def release(self, job: int) -> api.JobView:
        return self._ask("POST", f"/v1/jobs/{job}/release", api.JobView, again=False)

    def update(self, job: int, set: dict[str, Any]) -> api.JobView:
        """`set`: key paths of the job file and their new values."""
        return self._ask("PATCH", f"/v1/jobs/{job}", api.JobView, api.UpdateRequest(set=set))

    def retry(self, job: int, request: api.RetryRequest) -> api.JobView:
        """The new job, which goes on where this one stopped."""
        return self._ask("POST", f"/v1/jobs/{job}/retry", api.JobView, request)

    def remove(self, job: int, *, keep: str | None = None) -> api.JobView:
        """Forget an ended job and its files (`keep="best"`: but for that checkpoint); as it was."""
        return self._ask("DELETE", f"/v1/jobs/{job}", api.JobView, api.RemoveRequest(keep=keep), again=False)

    def prune(self, older_than: float, *, dry_run: bool = False) -> api.PruneAnswer:
        """Remove the jobs that ended longer than so many seconds ago."""
        request = api.PruneRequest(older_than=older_than, dry_run=dry_run)
        return self._ask("POST", "/v1/prune", api.PruneAnswer, request, again=False)

    def path(self, job: int) -> api.PathAnswer:
        """Where the job's files and checkpoints lie."""
        return self._ask("GET", f"/v1/jobs/{job}/path", api.PathAnswer)

    def wait(self, job: int, timeout: float | None = None) -> api.JobView:
        """The job, once it has ended, over restarts of the daemon too. Raises TimeoutError."""
        from trainforge.client.waiting import wait_for

        return wait_for(self, job, timeout)

    # ------------------------------------------------------------ what jobs say

    def logs(
        self,
        job: int,
        *,
        attempt: int | str = "latest",
        rank: int | None = None,
        tail: int | None = None,
        follow: bool = False,
    ) -> Iterator[bytes]:
        """The output in chunks, as it was written; `attempt` is a number, "latest" or "all".

        With `follow` it goes on until the job has ended, and raises NoDaemon when the daemon goes
        away before that.
        """
        query = {"attempt": attempt, "rank": rank, "tail": tail, "follow": follow or None}
        stream = self._open(_target(f"/v1/jobs/{job}/logs", query), {}, None)
        try:
            while chunk := stream.read():
                yield chunk
        except LOST as error:
            raise self._transport.lost(error) from error
        finally:
            stream.close()

    def metrics(
        self,
        job: int,
        names: Iterable[str] = (),
        *,
        since: float | None = None,
        points: int = 1000,
        rank: int | None = None,
    ) -> api.MetricsAnswer:
        """Reported series (no names: all), downsampled to `points`, from `since` (s since the epoch) on, of
        one rank (None: the first)."""
        query = {"name": list(names), "since": since, "points": points, "rank": rank}
        return self._ask("GET", _target(f"/v1/jobs/{job}/metrics", query), api.MetricsAnswer)

    def points(
        self, job: int, name: str, *, rank: int = 0, cursor: str | None = None, limit: int = 10_000
    ) -> api.PointsAnswer:
        """Every point of one series, a part at a time: `next` of the answer is the next `cursor`."""
        query = {"name": name, "rank": rank, "cursor": cursor, "limit": limit}
        return self._ask("GET", _target(f"/v1/jobs/{job}/points", query), api.PointsAnswer)

    @property
    def insight(self) -> Insight:
        """Why jobs are where they are, over time, side by side."""
        from trainforge.client.insight import Insight

        return Insight(self._read)

    def events(
        self,
        after: int | None = None,
        *,
        job: int | None = None,
        follow: bool = False,
        reconnect: bool = True,
    ) -> Iterator[api.EventView]:
        """Events above the id `after`, in order. Without `follow` those that there are; with it,
        those to come too (`after` None: only those), over restarts of the daemon unless `reconnect`
        is off."""
        if not follow:
            yield from self._past_events(after or 0, job)
            return
        with self.watch(after, job=job, reconnect=reconnect) as stream:
            for item in stream:
                if isinstance(item, api.EventView):
                    yield item

    def events_page(self, after: int = 0, *, job: int | None = None, limit: int = 500) -> api.EventList:
        """One page of past events."""
        return self._ask("GET", _target(_events(job), {"after": after, "limit": limit}), api.EventList)

    def watch(
        self, after: int | None = None, *, job: int | None = None, reconnect: bool = True
    ) -> EventStream:
        """The live stream: events, and in between the progress of jobs and the figures of GPUs.

        Close it, from any thread. It has a connection of its own.
        """
        from trainforge.client.events import EventStream

        target = _target(_events(job), {})
        return EventStream(lambda place: self._open_events(target, place), after, reconnect)

    # ------------------------------------------------------------ contents of files

    def missing(self, hashes: Iterable[str]) -> tuple[str, ...]:
        """Those of these contents (sha256) that the daemon has not stored."""
        request = api.MissingRequest(files=tuple(hashes))
        return self._ask("POST", "/v1/files/missing", api.MissingAnswer, request).missing

    def put_file(self, sha256: str, open: Callable[[], BinaryIO]) -> None:
        """Store one content, read from what `open` returns; a large one is never held whole.

        `open` is called again for each try.
        """
        self._checked(self._transport.ask(put_request(sha256, open)))

    def upload(self, entries: Iterable[api.FileEntry], open: Callable[[api.FileEntry], BinaryIO]) -> int:
        """Store what the daemon lacks of these files; returns how many contents were sent."""
        by_hash = {entry.sha256: entry for entry in entries if entry.sha256 is not None}
        hashes, sent = list(by_hash), 0
        for start in range(0, len(hashes), HASHES_AT_ONCE):
            for sha256 in self.missing(hashes[start : start + HASHES_AT_ONCE]):
                entry = by_hash[sha256]
                self.put_file(sha256, lambda entry=entry: open(entry))  # type: ignore[misc]
                sent += 1
        return sent

    # ------------------------------------------------------------ the machine

    def gpus(self, *, history: float | None = None) -> api.GpuList:
        """The devices; with their last `history` seconds."""
        return self._ask("GET", _target("/v1/gpus", {"history": history}), api.GpuList)

    def drain(self, uuid: str, reason: str | None = None) -> api.GpuView:
        """Give this GPU out no more."""
        return self._ask(
            "POST", f"/v1/gpus/{quote(uuid, '')}/drain", api.GpuView, api.DrainRequest(reason=reason)
        )

    def undrain(self, uuid: str) -> api.GpuView:
        return self._ask("POST", f"/v1/gpus/{quote(uuid, '')}/undrain", api.GpuView)

    def sign_in(self) -> SignInAnswer:
        """An address that opens the page, once and for a minute."""
        from trainforge.api.page import SignInAnswer

        return self._ask("POST", "/v1/sign-in", SignInAnswer)

    def status(self) -> api.StatusAnswer:
        return self._ask("GET", "/v1/status", api.StatusAnswer)

    def report(self, since: str = "7d") -> ReportAnswer:
        """What GPUs were held for since then: a duration back, or a moment."""
        from trainforge.api.report import ReportAnswer

        return self._ask("GET", _target("/v1/report", {"since": since}), ReportAnswer)

    def disk(self) -> api.DiskAnswer:
        return self._ask("GET", "/v1/disk", api.DiskAnswer)

    def openapi(self) -> dict[str, Any]:
        """The API's description."""
        return self._ask("GET", "/v1/openapi.json", dict[str, Any])

    def prometheus(self) -> str:
        """Figures in Prometheus' text format."""
        return self._checked(self._transport.ask(Request("GET", "/metrics"))).body.decode()

    # ------------------------------------------------------------ how

    def _read(self, path: str, query: dict[str, Any], type: type[T]) -> T:
        return self._ask("GET", _target(path, query), type)

    def _ask(
        self,
        method: str,
        target: str,
        type: type[T],
        body: object = None,
        *,
        again: bool = True,
        timeout: float | None = None,
    ) -> T:
        encoded = None if body is None else msgspec.json.encode(body)
        request = Request(method, target, lambda: encoded, again=again, timeout=timeout)
        return msgspec.json.decode(self._checked(self._transport.ask(request)).body, type=type)

    def _checked(self, answer: Answer) -> Answer:
        if answer.status >= 400:
            raise refusal(answer.status, answer.body)
        return answer

    def _open(self, target: str, headers: dict[str, str], timeout: float | None) -> Stream:
        stream = self._transport.open(target, headers, timeout)
        if stream.status < 400:
            return stream
        try:
            raise refusal(stream.status, stream.read_all())
        except LOST as error:
            raise self._transport.lost(error) from error
        finally:
            stream.close()

    def _open_events(self, target: str, place: int | None) -> Stream:
        headers = {"Accept": "text/event-stream"}
        if place is not None:
            headers["Last-Event-ID"] = str(place)
        try:
            return self._open(target, headers, SILENCE)
        except ApiError as error:
            if error.code not in (api.ErrorCode.TOO_MANY, api.ErrorCode.UNAVAILABLE) or self.socket is None:
                raise
            raise NoDaemon({self.socket: error.message}) from error

    def _past_events(self, after: int, job: int | None) -> Iterator[api.EventView]:
        while True:
            page = self.events_page(after, job=job)
            yield from page.events
            if page.next is None:
                return
            after = page.next


def _events(job: int | None) -> str:
    return "/v1/events" if job is None else f"/v1/jobs/{job}/events"


def _target(path: str, query: dict[str, Any]) -> str:
    """Parameters that are None or without an entry are left out. An empty text is not nothing: it is sent,
    and refused."""
    given = {k: str(v).lower() if v is True else v for k, v in query.items() if v not in (None, [])}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path
