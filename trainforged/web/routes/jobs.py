"""Routes that take, show and change jobs."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import msgspec

from trainforge.api import (
    CancelRequest,
    ErrorCode,
    JobList,
    JobRequest,
    JobView,
    PathAnswer,
    PruneAnswer,
    PruneRequest,
    RemoveRequest,
    RetryRequest,
    SubmitRequest,
    SweepRequest,
    UpdateRequest,
)
from trainforge.jobfile.patches import patched
from trainforge.states import JobState
from trainforged.web.errors import ApiProblem, no_such_job
from trainforged.web.limits import MIB
from trainforged.web.routing import Call, Routes
from trainforged.web.service import JobFilter

routes = Routes()


LARGEST_SWEEP = 256 * MIB  # bytes of specs, once they are laid out
Filled = Annotated[str, msgspec.Meta(min_length=1)]  # an empty filter would mean all jobs


class JobsQuery(msgspec.Struct, frozen=True, kw_only=True):
    state: tuple[JobState, ...] = ()
    user: Filled | None = None
    name: Filled | None = None  # may be a glob pattern
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    cursor: str | None = None


@routes.add("POST", "/v1/jobs", "Queue one job, or a list of them whole or not at all", status=201)
async def submit(
    call: Call[None, SubmitRequest | tuple[SubmitRequest, ...]],
) -> JobView | tuple[JobView, ...]:
    if isinstance(call.body, SubmitRequest):
        _check_folder(call.body)
        (job,) = await call.service.submit([call.body])
        return job
    if not call.body:
        raise ApiProblem(ErrorCode.INVALID_REQUEST, "the list of jobs is empty")
    for request in call.body:
        _check_folder(request)
    return await call.service.submit(call.body)


@routes.add("POST", "/v1/sweeps", "Queue jobs that share what is stated once, all or none", status=201)
async def sweep(call: Call[None, SweepRequest]) -> tuple[JobView, ...]:
    body = call.body
    _check_folder(body)
    if len(msgspec.json.encode(body.spec)) * len(body.jobs) > LARGEST_SWEEP:
        raise ApiProblem(ErrorCode.TOO_LARGE, f"{len(body.jobs)} jobs with that large a spec are too much")
    shared = {name: getattr(body, name) for name in JobRequest.__struct_fields__ if name != "spec"}
    return await call.service.submit(
        [
            SubmitRequest(spec=patched(body.spec, job.spec), request_id=job.request_id, **shared)
            for job in body.jobs
        ]
    )


def _check_folder(request: JobRequest) -> None:
    """Whether the folder exists is found out where the job starts: the daemon opens no path of a client."""
    folder = request.workdir
    if folder is not None and (not folder.startswith("/") or "\0" in folder):
        message = f"workdir: expected an absolute path without NUL, found {folder[:200]!r}"
        raise ApiProblem(ErrorCode.INVALID_REQUEST, message)


def _filter(query: JobsQuery) -> JobFilter:
    return JobFilter(
        states=query.state, user=query.user, name=query.name, limit=query.limit, cursor=query.cursor
    )


@routes.add(
    "GET",
    "/v1/jobs",
    "Jobs, newest first, a page at a time",
    at_once=lambda call: partial(call.service.memory.jobs, _filter(call.query)),
)
async def list_jobs(call: Call[JobsQuery, None]) -> JobList:
    return await call.service.jobs(_filter(call.query))


@routes.add(
    "GET",
    "/v1/jobs/{id}",
    "One job, with its attempts and why they ended",
    at_once=lambda call: partial(call.service.memory.job, call.job),
)
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
