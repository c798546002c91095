"""What all requests of one application share: the service, the limits, and what counts against them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from trainforged.web.at_once import AtOnce
from trainforged.web.limits import Budget, Inflow, Limits
from trainforged.web.port.door import Door
from trainforged.web.service import Service

SMALL = 64 * 1024  # bodies up to here are not counted: the number of connections bounds them


class Context:
    """One for all applications of a daemon. `describe` gives the API's description; `door` is the web port,
    where there may be one."""

    def __init__(
        self,
        service: Service,
        limits: Limits,
        describe: Callable[[], dict[str, Any]],
        door: Door | None = None,
    ) -> None:
        self.service = service
        self.door = door
        self.limits = limits
        self.describe = describe
        self.requests: Counter[tuple[str, str, int]] = Counter()  # (method, route, status)
        self.streams: set[asyncio.Task[Any]] = set()  # handlers whose answer goes on and on
        self.at_once = AtOnce(self.requests)
        self.inflow = Inflow(limits.inflow, in_crowd=limits.inflow_in_crowd)
        self._bodies = Budget(max(limits.bodies_in_memory, limits.json_body))

    @contextlib.asynccontextmanager
    async def room_for(self, request: web.Request) -> AsyncIterator[None]:
        """Memory for the request's body; waits for it where many large ones come at once."""
        size = self._size_of_body(request)
        if size <= SMALL:
            yield
            return
        await self._bodies.take(size)
        try:
            yield
        finally:
            self._bodies.give_back(size)

    def _size_of_body(self, request: web.Request) -> int:
        if not request.body_exists:
            return 0
        most, length = self.limits.json_body, request.content_length
        return most if length is None else min(length, most)


CONTEXT = web.AppKey("context", Context)
