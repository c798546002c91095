"""Blocking work beside the event loop, on threads of its own: what writes and hashes gigabytes must not stand
in front of the short questions to the database, which asyncio's own threads answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_THREADS = ThreadPoolExecutor(4, thread_name_prefix="files")  # started as they are needed


async def in_thread(work: Callable[[], T]) -> T:
    """As asyncio.to_thread, but when cancelled it lets the thread finish first: what the thread works
    on is the caller's alone again when this returns or raises."""
    task = asyncio.get_running_loop().run_in_executor(_THREADS, work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        raise
