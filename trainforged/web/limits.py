"""What one client may cost: sizes, rates and patience, and the reading of bodies within them."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

import msgspec
from aiohttp import web
from aiohttp.http import HttpProcessingError

from trainforge.api import ErrorCode
from trainforged.web.errors import ApiProblem

KIB = 1024
MIB = 1024 * KIB
LARGE_PIECE = 16 * KIB  # of a body, as it is read
INFLOW_AT_ONCE = 0.02  # seconds' worth of large bodies that may come together
CROWD = 50  # questions in the last second or so, from which on it is a crowd that asks


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds. The defaults are far above what people and scripts do."""

    connections: int = 2000
    streams: int = 256  # event streams and followed logs together
    requests_per_second: float = 1000.0  # of one connection, sustained
    burst: int = 5000
    json_body: int = 16 * MIB
    file: int = 2048 * MIB
    inflow: float = 256.0 * MIB  # bytes per second of large bodies, all connections together, sustained
    inflow_in_crowd: float = 64.0 * MIB  # the same while a crowd asks
    bodies_in_memory: int = 64 * MIB  # JSON bodies being read at one time, all connections together
    body_patience: float = 10.0  # waited for a body in all, beside its share at `least_rate`
    least_rate: float = 64.0 * KIB  # bytes per second
    idle: float = 75.0  # a connection without a whole request
    quiet: float = 1.0  # the same, after which it makes room for another where there are too many
    linger: float = 0.2  # reads on after refusing a body: many clients see the answer only then
    stalled: float = 30.0  # an answer of which nothing is taken
    heartbeat: float = 15.0  # a comment in an event stream that has nothing to tell
    news: float = 1.0  # between two tellings of progress and of GPU figures


class TokenBucket:
    """`rate` a second sustained, `burst` at once. `take` returns 0, or the seconds until the next."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at = 0.0

    def take(self, now: float) -> float:
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        if self._level >= 1:
            self._level -= 1
            return 0.0
        return (1 - self._level) / self._rate

    def put_back(self) -> None:
        """What was taken last does not count."""
        self._level = min(self._burst, self._level + 1)


class Inflow:
    """How fast large bodies come in, all connections together: who sends gigabytes leaves room for who asks,
    and more of it to a crowd (`in_crowd`). What comes in small pieces is not counted."""

    def __init__(
        self, rate: float, clock: Callable[[], float] = time.monotonic, in_crowd: float | None = None
    ) -> None:
        self._rate = rate
        self._in_crowd = rate if in_crowd is None else min(rate, in_crowd)
        self._clock = clock
        self._level = rate * INFLOW_AT_ONCE
        self._at = clock()
        self._questions = 0.0  # of the last second, about: what is older fades
        self._asked_at = self._at

    def asked(self) -> None:
        """Somebody wants an answer."""
        self._questions = 1.0 + self._recently(now := self._clock())
        self._asked_at = now

    def take(self, size: int) -> float:
        """So many bytes have come: the seconds until their connection may be read on."""
        if size < LARGE_PIECE:
            return 0.0
        now = self._clock()
        rate = self._in_crowd if self._recently(now) >= CROWD else self._rate
        self._level = min(rate * INFLOW_AT_ONCE, self._level + (now - self._at) * rate) - size
        self._at = now
        return max(0.0, -self._level / rate)

    def _recently(self, now: float) -> float:
        return self._questions * math.exp(self._asked_at - now)


class Budget:
    """Bytes that may be held at one time; who wants more waits, in order of coming."""

    def __init__(self, total: int) -> None:
        self._free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> None:
        """`size` is at most the total. Give it back."""
        if not self._waiting and size <= self._free:
            self._free -= size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size, turn)
        self._waiting.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(size)
            else:
                self._waiting.remove(entry)
                self._serve()
            raise

    def give_back(self, size: int) -> None:
        self._free += size
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, turn = self._waiting.popleft()
            self._free -= size
            turn.set_result(None)


async def body_chunks(request: web.Request, limits: Limits, most: int) -> AsyncIterator[bytes]:
    """The body as it comes in; refused when it is larger than `most`, too slow, or cut off.

    Only the time spent waiting for the client counts.
    """
    check_length(request, most)
    loop = asyncio.get_running_loop()
    got, patience = 0, limits.body_patience
    while True:
        before = loop.time()
        chunk = await _next_chunk(request, patience)
        patience += len(chunk) / limits.least_rate - (loop.time() - before)
        got += len(chunk)
        if not chunk:
            return
        if got > most:
            raise too_large(most)
        yield chunk


def check_length(request: web.Request, most: int) -> None:
    """Refuse by what the request says of itself, before anything is read."""
    if (request.content_length or 0) > most:
        raise too_large(most)


def too_large(most: int) -> ApiProblem:
    size = f"{most // MIB} MiB" if most >= MIB else f"{most} bytes"
    return ApiProblem(ErrorCode.TOO_LARGE, f"the body is larger than {size}")


async def _next_chunk(request: web.Request, patience: float) -> bytes:
    try:
        async with asyncio.timeout(max(patience, 0)):
            return await request.content.readany()
    except TimeoutError as error:
        raise ApiProblem(ErrorCode.TIMEOUT, "the body came too slowly") from error
    except (web.RequestPayloadError, HttpProcessingError, ConnectionError) as error:
        raise ApiProblem(ErrorCode.INVALID_REQUEST, f"the body cannot be read: {error}") from error
