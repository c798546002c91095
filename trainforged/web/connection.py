"""One client's connection: aiohttp's, with bounds, and with JSON for what is not HTTP."""

from __future__ import annotations

import asyncio
import heapq
import logging
import os
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web

from trainforge.api import ErrorCode
from trainforged.web.at_once import LONGEST, AtOnce, Question, is_plain
from trainforged.web.errors import ApiProblem
from trainforged.web.limits import Inflow, Limits, TokenBucket
from trainforged.web.routing import json_response

log = logging.getLogger(__name__)
access_log = logging.getLogger("trainforged.web.access")  # a line per request, at INFO
access_log.setLevel(logging.WARNING)  # off, whatever the root logger says, until it is turned on


SHARE = 8  # of so many connections one makes room at a time
PAUSE = 0.1  # seconds between two looks for those

Stranger = Callable[[asyncio.BaseTransport], bool]
"""Whether a connection that was just made is from somebody who is not served."""


class Crowd:
    """Where `most` connections are open, those that ask for nothing make room for who comes: holding many
    keeps nobody out."""

    def __init__(self, most: int, quiet: float) -> None:
        self._most = most
        self._quiet = quiet
        self._look_at = 0.0

    def has_room(self, connections: Iterable[object], count: int, now: float) -> bool:
        """For the newest of the `count` connections, which it is one of."""
        if count <= self._most:
            return True
        if now < self._look_at:
            return False
        self._look_at = now + PAUSE
        ours = (one for one in connections if isinstance(one, Connection))
        idle = [(one.asked, since, id(one), one) for one in ours if (since := one.quiet_since) is not None]
        spare = [one for one in idle if now - one[1] >= self._quiet]
        for *_, one in heapq.nsmallest(max(1, self._most // SHARE), spare):
            one.abort()
        return bool(spare)


class Connection(web.RequestHandler):
    """Closes when nothing whole comes for `idle` seconds, or when an answer is not taken for
    `stalled` seconds. One for which the `crowd` has no room is told so, and so is whoever is a `stranger`.
    `at_once` knows what can be answered at once to who may ask everything."""

    def __init__(
        self,
        server: web.Server,
        limits: Limits,
        inflow: Inflow,
        crowd: Crowd,
        stranger: Stranger | None = None,
        at_once: AtOnce | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=limits.idle,
            lingering_time=limits.linger,
            access_log=access_log,
            auto_decompress=False,  # nothing inflates beyond the size that was sent
        )
        self.on_lost: Callable[[], object] | None = None  # called once, when the client is gone
        self._stranger = stranger
        self._limits = limits
        self._inflow = inflow
        self._resting: asyncio.TimerHandle | None = None  # while nothing is read, for others to be heard
        self._crowd = crowd
        self._at_once = None if self._logging_enabled else at_once  # the long way writes a line for each
        self._fresh = True  # nothing was given to the long way yet
        self._between = True  # what comes next is the beginning of a request
        self._plain: bytes | None = None  # the request under way, if it is plain and was alone
        self._bucket = TokenBucket(limits.requests_per_second, limits.burst)
        self._stalled: asyncio.TimerHandle | None = None

    @property
    def asked(self) -> bool:
        """Whether it ever sent a whole request."""
        return self._request_count > 0

    @property
    def quiet_since(self) -> float | None:
        """Since when nothing whole has come; None while a request is answered."""
        waits = self._waiter is not None and not self._waiter.done()
        return self._next_keepalive_close_time - self._limits.idle if waits else None

    def admit(self) -> None:
        """Count one request against the connection's rate; refuse it above that."""
        wait = self._bucket.take(self._loop.time())
        if wait:
            raise ApiProblem(ErrorCode.TOO_MANY, "too many requests at once", retry_after=wait)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        manager = self._manager
        if self._stranger is not None and self._stranger(transport):
            self._refuse(ApiProblem(ErrorCode.FORBIDDEN, "this daemon serves its own user, and nobody else"))
        elif manager is not None and not self._crowd.has_room(
            manager.connections, len(manager.connections), self._loop.time()
        ):
            self._refuse(ApiProblem(ErrorCode.TOO_MANY, "too many connections", retry_after=1))
        elif self._at_once is not None:
            self._read_first(transport.get_extra_info("socket").fileno())

    def _read_first(self, descriptor: int) -> None:
        """Who connects mostly asks in the same breath: read a turn sooner than the transport would."""
        try:
            data = os.read(descriptor, LONGEST)
        except OSError:  # nothing yet, or gone again: the transport will see
            return
        if data:
            self.data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._cancel_stall()
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        lost, self.on_lost = self.on_lost, None
        if lost is not None:
            lost()

    def learn(self, route: str, question: Question) -> None:
        """The request under way can be answered at once when it comes again."""
        if self._at_once is not None and self._plain is not None:
            self._at_once.learn(self._plain, route, question)

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET "):
            self._inflow.asked()
        if self._at_once is not None and self._between:
            idle = self._idle
            if idle and self._answered(self._at_once, data):
                return
            self._between = is_plain(data)
            self._plain = data if idle and self._between else None
        self._fresh = False
        super().data_received(data)
        wait = self._inflow.take(len(data))
        if wait and self._resting is None:
            self._resting = self._loop.call_later(wait, self._read_on)
            self._pause_transport_reading()

    @property
    def _idle(self) -> bool:
        """Nothing is being answered, and an answer would be sent."""
        waits = self._fresh or (self._waiter is not None and not self._waiter.done() and not self._messages)
        return waits and not (self._close or self._force_close or self.writing_paused)

    def _answered(self, at_once: AtOnce, request: bytes) -> bool:
        """As the long way would have, within the connection's rate."""
        now, transport = self._loop.time(), self.transport
        if transport is None or self._bucket.take(now):
            return False
        answer = at_once.answer(request)
        if answer is None:
            self._bucket.put_back()
            return False
        self._request_count += 1
        self._next_keepalive_close_time = now + self._keepalive_timeout
        transport.write(answer)
        return True

    def _read_on(self) -> None:
        self._resting = None
        if not self._reading_paused and not self._buffer_paused:
            self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        """What aiohttp calls once it has room again."""
        if self._resting is None:
            super()._resume_transport_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self._loop.call_later(self._limits.stalled, self.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._cancel_stall()

    def abort(self) -> None:
        """End the connection at once, with what was not sent."""
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP never reaches a route: aiohttp asks here for the answer."""
        log.debug("not a request: %s", message, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionResetError("the answer has begun already")
        first_line = (message or "").strip().partition("\n")[0]
        code = ErrorCode.INVALID_REQUEST if status < 500 else ErrorCode.INTERNAL
        problem = ApiProblem(code, f"not a valid HTTP request: {first_line}")
        response = json_response(problem.answer, problem.status)
        response.force_close()
        return response

    def _cancel_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _refuse(self, problem: ApiProblem) -> None:
        transport = self.transport
        assert transport is not None
        transport.write(_raw(json_response(problem.answer, problem.status), problem.headers))
        self.force_close()


def _raw(response: web.Response, headers: dict[str, str]) -> bytes:
    """The answer as bytes, for a connection on which nothing was asked."""
    body: Any = response.body
    head = [f"HTTP/1.1 {response.status} {response.reason}", "Content-Type: application/json"]
    head += [f"{name}: {value}" for name, value in headers.items()]
    head += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(head).encode() + bytes(body)
