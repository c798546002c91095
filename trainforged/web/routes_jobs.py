"""Routes that take, show and change jobs."""

from __future__ import annotations

from typing import Annotated

import msgspec

from trainforge.api import (
    CancelRequest,
    ErrorCode,
    JobList,
    JobView,
    PathAnswer,
    PruneAnswer,
    PruneRequest,
    RemoveRequest,
    RetryRequest,
    SubmitRequest,
    UpdateRequest,
)
from trainforge.states import JobState
from trainforged.web.errors import ApiProblem, no_such_job
from trainforged.web.routing import Call, Routes
from trainforged.web.service import JobFilter

routes = Routes()


class JobsQuery(msgspec.Struct, frozen=True, kw_only=True):
    state: tuple[JobState, ...] = ()
    user: str | None = None
    name: str | None = None  # may be a glob pattern
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    cursor: str | None = None


@routes.add("POST", "/v1/jobs", "Queue one job, or a list of them whole or not at all", status=201)
async def submit(
    call: Call[None, SubmitRequest | tuple[SubmitRequest, ...]],
) -> JobView | tuple[JobView, ...]:
    if isinstance(call.body, SubmitRequest):
        (job,) = await call.service.submit([call.body])
        return job
    if not call.body:
        raise ApiProblem(ErrorCode.INVALID_REQUEST, "the list of jobs is empty")
    return await call.service.submit(call.body)


@routes.add("GET", "/v1/jobs", "Jobs, newest first, a page at a time")
async def list_jobs(call: Call[JobsQuery, None]) -> JobList:
    query = call.query
    which = JobFilter(
        states=query.state, user=query.user, name=query.name, limit=query.limit, cursor=query.cursor
    )
    return await call.service.jobs(which)


@routes.add("GET", "/v1/jobs/{id}", "One job, with its attempts and why they ended")
async def show_job(call: Call[None, None]) -> JobView:
    found = await call.service.job(call.job)
    if found is None:
        raise no_such_job(call.job)
    return found


@routes.add("PATCH", "/v1/jobs/{id}", "Change a job that has not ended")
async def update(call: Call[None, UpdateRequest]) -> JobView:
    return await call.service.update(call.job, call.body)


@routes.add("DELETE", "/v1/jobs/{id}", "Remove an ended job and its files; the job as it was")
async def remove(call: Call[None, RemoveRequest]) -> JobView:
    return await call.service.remove(call.job, call.body)


@routes.add("POST", "/v1/jobs/{id}/cancel", "Stop a job: time to save, unless `now`")
async def cancel(call: Call[None, CancelRequest]) -> JobView:
    return await call.service.cancel(call.job, call.body)


@routes.add("POST", "/v1/jobs/{id}/hold", "Keep a job from starting; a running one saves and stops")
async def hold(call: Call[None, None]) -> JobView:
    return await call.service.hold(call.job)


@routes.add("POST", "/v1/jobs/{id}/release", "Let a held job start")
async def release(call: Call[None, None]) -> JobView:
    return await call.service.release(call.job)


@routes.add("POST", "/v1/jobs/{id}/retry", "A new job that goes on where this one stopped", status=201)
async def retry(call: Call[None, RetryRequest]) -> JobView:
    return await call.service.retry(call.job, call.body)


@routes.add("GET", "/v1/jobs/{id}/path", "Where the job's files and checkpoints lie")
async def path(call: Call[None, None]) -> PathAnswer:
    return await call.service.path(call.job)


@routes.add("POST", "/v1/prune", "Remove jobs that ended long ago, with their files")
async def prune(call: Call[None, PruneRequest]) -> PruneAnswer:
    return await call.service.prune(call.body)
