"""Requests that make or change a job: checked, their contents stored, put to the core, answered.

A request id makes one job, however often it is sent and whatever was lost on the way: ids under way
are remembered here, older ones are found in storage.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from trainforge.api import ErrorCode, ErrorDetail, FileEntry, RetryRequest, ShellState, SubmitRequest
from trainforge.jobfile.checks import SpecError, check
from trainforge.jobfile.layers import updated
from trainforge.spec import JobSpec
from trainforge.states import JobState
from trainforged.core import messages as m
from trainforged.daemon.answering.labels import label
from trainforged.daemon.attempts import resuming
from trainforged.daemon.engine import Engine
from trainforged.execution.files.manifest import check_manifest
from trainforged.execution.files.store import Files
from trainforged.storage.jobs.store import JobStore, Submission
from trainforged.web.errors import ApiProblem

Accept = Coroutine[Any, Any, tuple[int, ...]]

MANY = 20  # specs; more are checked off the loop
CHANGEABLE_LIVE = ("schedule.priority", "schedule.time_limit", "recovery.")


def refused(reply: m.Reply) -> ApiProblem:
    """The core's refusal as the API's."""
    assert isinstance(reply, m.Refused)
    details = (ErrorDetail(path=reply.path, message=reply.message),) if reply.path else ()
    return ApiProblem(ErrorCode(reply.code), reply.message, details)


def ids(reply: m.Reply) -> tuple[int, ...]:
    """The jobs of a reply that accepts; raises `ApiProblem` for one that refuses."""
    if isinstance(reply, m.Accepted):
        return reply.jobs
    raise refused(reply)


class Submissions:
    """All methods belong to the event loop. `user` owns every job: the daemon serves its own user."""

    def __init__(
        self,
        engine: Engine,
        store: JobStore,
        files: Files,
        user: str,
        jobs_dir: Path,
        *,
        project_limit: Callable[[], int],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._project_limit = project_limit
        self._engine = engine
        self._store = store
        self._files = files
        self._user = user
        self._jobs_dir = jobs_dir
        self._clock = clock
        self._under_way: dict[str, tuple[tuple[str, ...], asyncio.Task[tuple[int, ...]]]] = {}

    async def submit(self, requests: Sequence[SubmitRequest]) -> tuple[int, ...]:
        """Accept all or none; the ids in the order of the requests."""
        keys = tuple(request.request_id for request in requests)
        if len(set(keys)) < len(keys):
            raise ApiProblem(ErrorCode.INVALID_REQUEST, "two of the requests have the same request_id")
        return await self._once(keys, lambda: self._accept(requests))

    async def _once(self, keys: tuple[str, ...], accept: Callable[[], Accept]) -> tuple[int, ...]:
        """What `accept` makes of these request ids, or what came of them before."""
        for key in keys:
            if key in self._under_way:
                others, task = self._under_way[key]
                if others != keys:
                    raise ApiProblem(ErrorCode.CONFLICT, "a request_id is in use by another request")
                return await asyncio.shield(task)
        task = asyncio.ensure_future(self._find_or(keys, accept))
        self._under_way.update(dict.fromkeys(keys, (keys, task)))
        task.add_done_callback(lambda _: [self._under_way.pop(key) for key in keys])
        return await asyncio.shield(task)

    async def _find_or(self, keys: tuple[str, ...], accept: Callable[[], Accept]) -> tuple[int, ...]:
        known = await asyncio.to_thread(self._store.find_requests, self._user, keys)
        if not known:
            return await accept()
        if len(known) < len(keys):
            raise ApiProblem(ErrorCode.CONFLICT, "some of the requests were accepted before, some not")
        return tuple(known[key] for key in keys)

    async def _accept(self, requests: Sequence[SubmitRequest]) -> tuple[int, ...]:
        if len(requests) > MANY:
            specs = await asyncio.to_thread(self._check_all, requests)
        else:
            specs = self._check_all(requests)
        submissions: dict[str, Submission] = {}
        new: list[m.NewJob] = []
        stored: dict[bytes, str] = {}
        for request, spec in zip(requests, specs, strict=True):
            submissions[request.request_id] = await self._store_contents(request, spec, stored)
            new.append(self._new_job(request, spec))
        event = m.Submitted(time=self._clock(), jobs=tuple(new))
        return ids(await self._engine.ask(event, submissions))

    def _check_all(self, requests: Sequence[SubmitRequest]) -> list[JobSpec]:
        now = self._now()
        with _translated():
            return [check(request.spec, now=now) for request in requests]

    def _now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._clock(), datetime.UTC)

    async def _store_contents(
        self, request: SubmitRequest, spec: JobSpec, stored: dict[bytes, str]
    ) -> Submission:
        _check_place(request)
        if request.resume_from is not None:
            await self._check_resume(request.resume_from, spec.schedule.waits_for)
        shell = await self._put(request.shell, stored)
        manifest = None
        if request.files is not None:
            self._check_files(request.files)
            missing = await self._files.secure(_hashes(request.files))
            if missing:
                message = f"{len(missing)} of the files' contents were not uploaded"
                raise ApiProblem(ErrorCode.MISSING_FILES, message)
            manifest = await self._put(request.files, stored)
        return Submission(
            spec=spec,
            request_id=request.request_id,
            workdir=request.workdir,
            manifest=manifest,
            shell=shell,
            root=request.shell.root,
            git=request.git,
            resume_from=request.resume_from,
            varied=request.varied,
            submit_dir=request.shell.cwd,
            python=request.shell.python,
        )

    def _check_files(self, files: Sequence[FileEntry]) -> None:
        """Raises `ApiProblem`, and `BadManifest` for paths that must not be laid out."""
        check_manifest(files)
        size, limit = sum(entry.size for entry in files), self._project_limit()
        if size > limit:
            message = f"the project has {size} bytes; the limit is {limit} (limits.project)"
            raise ApiProblem(ErrorCode.TOO_LARGE, message)

    async def _put(self, value: object, stored: dict[bytes, str]) -> str:
        """Keep a value by its content; once for all jobs of one list that share it."""
        data = msgspec.json.encode(value)
        if data not in stored:
            stored[data] = await asyncio.to_thread(self._files.put_bytes, data)
        return stored[data]

    async def _check_resume(self, job_id: int, after: Sequence[int]) -> None:
        """There is something to resume from, or there may be when the job's turn comes."""
        if await asyncio.to_thread(self._store.submission, job_id) is None:
            raise ApiProblem(ErrorCode.NO_SUCH_JOB, f"there is no job {job_id} to resume from")
        found = await asyncio.to_thread(resuming.checkpoint, self._jobs_dir, job_id)
        if found is None and job_id not in after:
            message = f"job {job_id} has no whole checkpoint to resume from"
            if job_id in self._engine.state.jobs:
                message += f"; with --after {job_id} too, this job waits until it has succeeded"
            raise ApiProblem(ErrorCode.CONFLICT, message)

    def _new_job(self, request: SubmitRequest, spec: JobSpec) -> m.NewJob:
        return m.NewJob(
            key=request.request_id,
            name=spec.project.name,
            user=self._user,
            script=spec.training.script is not None,
            resources=spec.resources,
            schedule=spec.schedule,
            recovery=spec.recovery,
            label=label(spec, request.varied),
            hold=request.hold,
        )

    # ---- changes of jobs

    async def update(self, job: m.Job, changes: dict[str, Any]) -> None:
        """Set key paths of the job's file. Raises `ApiProblem`."""
        submission = await asyncio.to_thread(self._store.submission, job.id)
        assert submission is not None, "a job has a submission"
        with _translated():
            spec = updated(submission.spec, changes, now=self._now())
        for path in changes:  # which are keys of a job file
            _check_changeable(job, path)
        key = uuid.uuid4().hex
        event = m.UpdateRequested(
            time=self._clock(),
            job=job.id,
            key=key,
            resources=spec.resources,
            schedule=spec.schedule,
            recovery=spec.recovery,
            label=label(spec, submission.varied),
        )
        changed = msgspec.structs.replace(submission, spec=spec)
        ids(await self._engine.ask(event, {key: changed}))

    async def retry(self, job_id: int, request: RetryRequest) -> int:
        """A new job from an old one's submission. Raises `ApiProblem`."""
        (new,) = await self._once((request.request_id,), lambda: self._accept_retry(job_id, request))
        return new

    async def _accept_retry(self, job_id: int, request: RetryRequest) -> tuple[int, ...]:
        old = await asyncio.to_thread(self._store.submission, job_id)
        if old is None:
            raise ApiProblem(ErrorCode.NO_SUCH_JOB, f"there is no job {job_id}")
        self._check_ended(job_id)
        with _translated():
            spec = check(request.spec, now=self._now()) if request.spec is not None else old.spec
        alone = {"after": (), "afterany": (), "afternotok": ()}
        if all(getattr(spec.schedule, key) == getattr(old.spec.schedule, key) for key in alone):
            # what it waited for is over; no other was asked for
            spec = msgspec.structs.replace(spec, schedule=msgspec.structs.replace(spec.schedule, **alone))
        fresh = SubmitRequest(
            spec={},
            request_id=request.request_id,
            workdir=old.workdir if request.files is None else None,
            files=request.files,
            shell=request.shell or ShellState(python=old.python, cwd=old.submit_dir, root=old.root),
            git=request.git or old.git,
            varied=tuple(dict.fromkeys((*old.varied, *request.varied))),
            resume_from=await self._source(job_id, old) if request.checkpoint != "none" else None,
        )
        if request.files is None and old.manifest is not None:
            submission = msgspec.structs.replace(
                old, spec=spec, request_id=request.request_id, varied=fresh.varied
            )
        else:
            submission = await self._store_contents(fresh, spec, {})
        submission = msgspec.structs.replace(
            submission,
            shell=submission.shell if request.shell is not None else old.shell,
            resume_from=fresh.resume_from,
            resume_best=request.checkpoint == "best",
        )
        event = m.Submitted(time=self._clock(), jobs=(self._new_job(fresh, spec),))
        return ids(await self._engine.ask(event, {request.request_id: submission}))

    async def _source(self, job_id: int, old: Submission) -> int | None:
        return await asyncio.to_thread(resuming.source, self._jobs_dir, job_id, old)

    def _check_ended(self, job_id: int) -> None:
        job = self._engine.state.jobs.get(job_id)
        if job is not None and not job.state.ended:
            held = job.state is JobState.HELD
            advice = f"`tfctl release {job_id}` lets it go on" if held else "cancel it first"
            raise ApiProblem(ErrorCode.CONFLICT, f"job {job_id} is {job.state}: {advice}")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except SpecError as error:
        raise ApiProblem(ErrorCode.INVALID_SPEC, str(error), error.details) from error


def _check_place(request: SubmitRequest) -> None:
    if (request.workdir is None) == (request.files is None):
        raise ApiProblem(ErrorCode.INVALID_REQUEST, "give either workdir or files")
    if request.workdir is not None and not request.workdir.startswith("/"):
        raise ApiProblem(ErrorCode.INVALID_REQUEST, f"workdir must be absolute, found {request.workdir!r}")


def _hashes(entries: Sequence[FileEntry]) -> tuple[str, ...]:
    return tuple({entry.sha256: None for entry in entries if entry.sha256 is not None})


def _check_changeable(job: m.Job, path: str) -> None:
    if job.state.live and not path.startswith(CHANGEABLE_LIVE):
        message = f"{path} cannot change while job {job.id} is {job.state}: `tfctl hold {job.id}` first"
        raise ApiProblem(ErrorCode.CONFLICT, message)
