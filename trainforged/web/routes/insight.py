"""Routes that the page looks into jobs with."""

from __future__ import annotations

from typing import Annotated

import msgspec

from trainforge.api import ErrorCode
from trainforge.api.page import (
    Checkpoints,
    Comparison,
    Differences,
    GpusHistory,
    GpusTimeline,
    Incident,
    JobHistory,
    SpecAnswer,
)
from trainforged.web.errors import ApiProblem
from trainforged.web.routing import LARGEST_ID, Call, Routes

routes = Routes()

MOST_COMPARED = 20
Id = Annotated[int, msgspec.Meta(ge=1, le=LARGEST_ID)]


Moment = Annotated[float, msgspec.Meta(ge=0, le=1e11)]  # seconds since the epoch
Points = Annotated[int, msgspec.Meta(ge=2, le=5000)]


class DifferencesQuery(msgspec.Struct, frozen=True, kw_only=True, rename={"with_": "with"}):
    with_: Id | None = None  # a job; without it the one before, of the same name


class TimelineQuery(msgspec.Struct, frozen=True, kw_only=True):
    since: Moment | None = None
    until: Moment | None = None


class HistoryQuery(TimelineQuery, frozen=True, kw_only=True):
    points: Points = 600


class JobHistoryQuery(msgspec.Struct, frozen=True, kw_only=True):
    since: Moment | None = None
    points: Points = 600


class CompareQuery(msgspec.Struct, frozen=True, kw_only=True):
    jobs: tuple[Id, ...]
    metrics: bool = True  # reading them takes most of the time


@routes.add("GET", "/v1/jobs/{id}/incident", "Why a job is where it is: cause, evidence, what was tried")
async def incident(call: Call[None, None]) -> Incident:
    return await call.service.insight.incident(call.job)


@routes.add("GET", "/v1/jobs/{id}/spec", "The job file as it was understood, and the commit")
async def spec(call: Call[None, None]) -> SpecAnswer:
    return await call.service.insight.spec(call.job)


@routes.add("GET", "/v1/jobs/{id}/differences", "Settings and files that differ from another job's")
async def differences(call: Call[DifferencesQuery, None]) -> Differences:
    return await call.service.insight.differences(call.job, call.query.with_)


@routes.add("GET", "/v1/jobs/{id}/checkpoints", "The job's checkpoints, oldest first")
async def checkpoints(call: Call[None, None]) -> Checkpoints:
    return await call.service.insight.checkpoints(call.job)


@routes.add("GET", "/v1/gpus/history", "What each GPU did over time")
async def gpus_history(call: Call[HistoryQuery, None]) -> GpusHistory:
    query = call.query
    return await call.service.insight.gpus_history(query.since, query.until, query.points)


@routes.add("GET", "/v1/gpus/timeline", "What each GPU was taken by over time")
async def gpus_timeline(call: Call[TimelineQuery, None]) -> GpusTimeline:
    return await call.service.insight.gpus_timeline(call.query.since, call.query.until)


@routes.add("GET", "/v1/jobs/{id}/history", "What a job used over time, and its GPUs while it held them")
async def job_history(call: Call[JobHistoryQuery, None]) -> JobHistory:
    return await call.service.insight.job_history(call.job, call.query.since, call.query.points)


@routes.add("GET", "/v1/compare", "Several jobs: settings that differ, last and best values")
async def compare(call: Call[CompareQuery, None]) -> Comparison:
    jobs = tuple(dict.fromkeys(call.query.jobs))
    if not 1 <= len(jobs) <= MOST_COMPARED:
        message = f"jobs: expected 1 to {MOST_COMPARED} numbers of jobs, found {len(jobs)}"
        raise ApiProblem(ErrorCode.INVALID_REQUEST, message)
    return await call.service.insight.compare(jobs, call.query.metrics)
