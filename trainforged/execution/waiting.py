"""Waiting without holding the event loop: on descriptors, and on what blocks."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

CANCEL_AGAIN = 2.0  # seconds

P = ParamSpec("P")
R = TypeVar("R")


class Threads:
    """A few threads of our own: a /proc read or a disk that hangs must not take everybody's."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, name)

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def close(self) -> None:
        """Begin nothing more; what runs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)


async def readable(fd: int) -> None:
    """Return when `fd` is readable: a pidfd is when its process has ended, a pipe also when it is closed."""
    loop = asyncio.get_running_loop()
    happened: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, lambda: None if happened.done() else happened.set_result(None))
    try:
        await happened
    finally:
        loop.remove_reader(fd)


async def cancel(tasks: Collection[asyncio.Task[None]], again: float = CANCEL_AGAIN) -> None:
    """End them all. One that took the word for something else, which libraries do, is told again."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=again)
