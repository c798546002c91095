"""What the daemon does at the same time: tasks that are known by name of nobody, and ended together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine

from trainforged.execution.waiting import cancel

log = logging.getLogger("trainforged")

PAUSE = 5.0  # seconds until a part that failed begins again

Part = Callable[[], Coroutine[None, None, None]]


class Tasks:
    """A task that fails is logged; the others go on."""

    def __init__(self, pause: float = PAUSE) -> None:
        self._pause = pause
        self._tasks: list[asyncio.Task[None]] = []

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Work that is done once."""
        task = asyncio.create_task(work)
        self._tasks.append(task)
        task.add_done_callback(self._done)
        return task

    def keep(self, part: Part) -> asyncio.Task[None]:
        """A part that works until it is cancelled, or done. Where it fails it begins again after a pause:
        else jobs would go on without it until somebody restarts the daemon."""
        return self.spawn(self._keep(part))

    async def cancel(self, but: asyncio.Task[None]) -> None:
        """All of them but one."""
        await cancel([task for task in self._tasks if task is not but])

    async def _keep(self, part: Part) -> None:
        while True:
            try:
                return await part()
            except Exception:
                log.exception("a part of the daemon failed; it begins again in %g s", self._pause)
            await asyncio.sleep(self._pause)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.remove(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a part of the daemon failed", exc_info=task.exception())
