"""What the daemon does at the same time: tasks that are known by name of nobody, and ended together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine

log = logging.getLogger("trainforged")


class Tasks:
    """A task that fails is logged; the others go on."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.append(task)
        task.add_done_callback(self._done)
        return task

    async def cancel(self, but: asyncio.Task[None]) -> None:
        """All of them but one."""
        others = [task for task in self._tasks if task is not but]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.remove(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a part of the daemon failed", exc_info=task.exception())
