"""Work on disks that may never answer (a server that is gone, a frozen file system): given up after a while.

The thread that hangs in the kernel is left behind. It is none of asyncio's, of which there are few, and which
are waited for at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def bounded(work: Callable[[], T], seconds: float) -> T:
    """What `work` returns, done in a thread of its own. Raises `TimeoutError`."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # T may be None itself

    def run() -> None:
        result, failed = None, None
        try:
            result = work()
        except Exception as error:
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failed)

    threading.Thread(target=run, name="bounded", daemon=True).start()
    async with asyncio.timeout(seconds):
        return await done
