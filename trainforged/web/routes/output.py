"""Routes that give what jobs say: output, metrics, events."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Annotated, Literal

import msgspec
from aiohttp import web

from trainforge.api import ErrorCode, EventList, MetricsAnswer, PointsAnswer
from trainforge.api.page import FoundLines
from trainforged.web.at_once import Question
from trainforged.web.errors import ApiProblem, no_such_job
from trainforged.web.insight import LineFilter
from trainforged.web.routing import Call, Routes
from trainforged.web.service import LogFilter, MetricsFilter, PointsFilter
from trainforged.web.streams import EVENT_STREAM, stream, tell

routes = Routes()

Moment = Annotated[float, msgspec.Meta(ge=0, le=1e12)]  # seconds since the epoch
Natural = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class LogsQuery(msgspec.Struct, frozen=True, kw_only=True):
    attempt: Annotated[int, msgspec.Meta(ge=1)] | Literal["latest", "all"] = "latest"
    rank: Natural | None = None  # one rank's output; without it, that of all
    tail: Natural | None = None  # lines
    follow: bool = False
    search: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 200  # lines found


class MetricsQuery(msgspec.Struct, frozen=True, kw_only=True):
    name: tuple[str, ...] = ()
    since: Moment | None = None
    until: Moment | None = None
    points: Annotated[int, msgspec.Meta(ge=2, le=10_000)] = 1000
    rank: Natural = 0


class PointsQuery(msgspec.Struct, frozen=True, kw_only=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
    rank: Natural = 0
    cursor: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,18}-[0-9]{1,18}$")] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 10_000


class EventsQuery(msgspec.Struct, frozen=True, kw_only=True):
    after: Natural | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 500


@routes.add(
    "GET", "/v1/jobs/{id}/logs", "The job's output, or where in it is `search`", content=("text/plain",)
)
async def logs(call: Call[LogsQuery, None]) -> FoundLines | web.StreamResponse:
    query = call.query
    if query.search is not None:
        lines = LineFilter(text=query.search, attempt=query.attempt, rank=query.rank, limit=query.limit)
        return await call.service.insight.search(call.job, lines)
    which = LogFilter(attempt=query.attempt, rank=query.rank, tail=query.tail, follow=query.follow)
    output = await call.service.logs(call.job, which)
    async with (
        contextlib.aclosing(output) as chunks,
        stream(call.request, call.context, "text/plain") as response,
    ):
        async for chunk in chunks:
            await response.write(chunk)
    return response


@routes.add("GET", "/v1/jobs/{id}/metrics", "Series the job reported, downsampled to `points`")
async def metrics(call: Call[MetricsQuery, None]) -> MetricsAnswer:
    query = call.query
    which = MetricsFilter(
        names=query.name, since=query.since, until=query.until, points=query.points, rank=query.rank
    )
    return await call.service.metrics(call.job, which)


@routes.add("GET", "/v1/jobs/{id}/points", "Every point of one series, a part at a time")
async def points(call: Call[PointsQuery, None]) -> PointsAnswer:
    query = call.query
    attempt, _, n = (query.cursor or "").partition("-")
    after = (int(attempt), int(n)) if query.cursor is not None else None
    which = PointsFilter(name=query.name, rank=query.rank, after=after, limit=query.limit)
    series, last = await call.service.points(call.job, which)
    following = f"{last[0]}-{last[1]}" if last is not None else None
    return PointsAnswer(job=call.job, rank=query.rank, series=series, next=following)


@routes.add("GET", "/v1/jobs/{id}/events", "What happened to one job, in order", content=(EVENT_STREAM,))
async def job_events(call: Call[EventsQuery, None]) -> EventList | web.StreamResponse:
    job = call.job
    if await call.service.job(job) is None:
        raise no_such_job(job)
    return await _events(call, job)


def _recent_events(call: Call[EventsQuery, None]) -> Question | None:
    if EVENT_STREAM in call.request.headers.get("Accept", ""):
        return None
    return partial(call.service.memory.events, call.query.after or 0, call.query.limit)


@routes.add("GET", "/v1/events", "What happened, in order", content=(EVENT_STREAM,), at_once=_recent_events)
async def events(call: Call[EventsQuery, None]) -> EventList | web.StreamResponse:
    return await _events(call, None)


async def _events(call: Call[EventsQuery, None], job: int | None) -> EventList | web.StreamResponse:
    if EVENT_STREAM in call.request.headers.get("Accept", ""):
        return await _live_events(call, job)
    return await call.service.events(call.query.after or 0, job, call.query.limit)


async def _live_events(call: Call[EventsQuery, None], job: int | None) -> web.StreamResponse:
    """History after the given id, then what happens; without an id only what happens from now on."""
    live = call.service.live
    cursor = live.listen(_resume_point(call), job, call.service.events)
    with contextlib.closing(cursor):
        async with stream(call.request, call.context, EVENT_STREAM) as response:
            await tell(response, live, cursor, call.context.limits)
    return response


def _resume_point(call: Call[EventsQuery, None]) -> int | None:
    """What a reconnecting client says of itself is newer than the address it was given at first."""
    last = call.request.headers.get("Last-Event-ID", "").strip()
    if not last:
        return call.query.after
    if not (last.isascii() and last.isdigit() and len(last) < 19):
        raise ApiProblem(ErrorCode.INVALID_REQUEST, "Last-Event-ID: expected the id of an event")
    return int(last)
