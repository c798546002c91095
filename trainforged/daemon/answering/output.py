"""A job's output over its attempts: the latest, one, or all of them, and on as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path

from trainforge.api import ErrorCode
from trainforged.core import messages as m
from trainforged.core.state import State
from trainforged.storage.logs import follow
from trainforged.web.errors import ApiProblem, no_such_attempt
from trainforged.web.service import LogFilter

WAIT = 0.1  # seconds between two looks for the next attempt


class Output:
    """Reads what shims keep in the folders of attempts."""

    def __init__(self, state: State, attempt_dir: Callable[[int, int], Path]) -> None:
        self._state = state
        self._attempt_dir = attempt_dir

    def read(self, job: m.Job, which: LogFilter) -> AsyncGenerator[bytes, None]:
        """The output in chunks. Raises `ApiProblem` at once where there is no such attempt or rank."""
        name = "output" if which.rank is None else f"rank-{which.rank}"
        first = 1 if which.attempt == "all" else job.attempt if which.attempt == "latest" else which.attempt
        single = isinstance(which.attempt, int)
        if single and not 1 <= first <= job.attempt:
            raise no_such_attempt(job.id, first, job.attempt)
        self._check_rank(job, first, which.rank)
        last = first if single else job.attempt
        return self._chunks(job.id, name, first, last, which, onward=which.follow and not single)

    def _check_rank(self, job: m.Job, attempt: int, rank: int | None) -> None:
        if rank is None or not attempt or not self._over(job.id, attempt):
            return
        folder = self._attempt_dir(job.id, attempt)
        if not (folder / f"rank-{rank}.log").exists():
            raise ApiProblem(ErrorCode.NOT_FOUND, f"attempt {attempt} of job {job.id} had no rank {rank}")

    async def _chunks(
        self, job: int, name: str, first: int, last: int, which: LogFilter, *, onward: bool
    ) -> AsyncGenerator[bytes, None]:
        lines, number = which.tail, max(1, first)
        while number <= last or (onward and await self._next(job, number)):
            if first > 0 and number > first:
                yield f"==> attempt {number} <==\n".encode()
            over = partial(self._over, job, number) if which.follow else _always
            async for chunk in follow(self._attempt_dir(job, number), name, over, lines):
                yield chunk
            number, lines = number + 1, None

    async def _next(self, job_id: int, number: int) -> bool:
        """Wait for that attempt; False when the job has ended without it. It may come and go unseen."""
        while True:
            job = self._state.jobs.get(job_id)
            if job is not None and job.attempt >= number:
                return True
            if job is None or job.state.ended:
                return self._attempt_dir(job_id, number).is_dir()
            await asyncio.sleep(WAIT)

    def _over(self, job_id: int, attempt: int) -> bool:
        job = self._state.jobs.get(job_id)
        return job is None or job.attempt != attempt or not job.state.live


def _always() -> bool:
    return True
