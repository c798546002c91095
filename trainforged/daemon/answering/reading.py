"""Reads of storage that take long, of which few go on at once, however many ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from trainforged.daemon.answering.refusing import looked_up

P = ParamSpec("P")
T = TypeVar("T")


class Readers:
    """At most `most` at once; the others wait for their turn. Belongs to one event loop."""

    def __init__(self, most: int) -> None:
        self._free = asyncio.Semaphore(most)

    async def read(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `looked_up`. Whoever leaves while waiting has not asked; a thread that reads for somebody who
        has left goes on to its end, and keeps its place until then."""
        await self._free.acquire()
        reading = asyncio.ensure_future(looked_up(call, *args, **kwargs))
        reading.add_done_callback(self._done)
        return await asyncio.shield(reading)

    def _done(self, reading: asyncio.Future[T]) -> None:
        self._free.release()
        if not reading.cancelled():
            reading.exception()  # who asked may have left, and nobody else has to know
