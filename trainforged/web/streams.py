"""Answers that go on: events as they happen, output as it is written.

A stream ends when its client goes away, takes nothing for too long, or the daemon stops. It holds
no more than one page or chunk, and what the socket takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
from aiohttp import web

from trainforge.api import ErrorCode, EventView, GpuList, JobProgress
from trainforged.web.connection import Connection
from trainforged.web.context import Context
from trainforged.web.errors import ApiProblem
from trainforged.web.limits import Limits
from trainforged.web.live import Cursor, Live

log = logging.getLogger(__name__)

EVENT_STREAM = "text/event-stream"
Streams = set[asyncio.Task[Any]]
UNEVEN = 1.25  # so that many streams are not all told at the same moment, which others would feel
PIECE = 16 * 1024  # bytes written at a time


@contextlib.asynccontextmanager
async def stream(
    request: web.Request, context: Context, content_type: str
) -> AsyncIterator[web.StreamResponse]:
    """An answer that has begun. Its handler is cancelled when the client goes away.

    An error after the beginning can only cut the answer off; it is logged.
    """
    task = asyncio.current_task()
    assert task is not None
    if request.transport is None:
        raise ConnectionResetError("the client is gone")
    if len(context.streams) >= context.limits.streams:
        raise ApiProblem(ErrorCode.TOO_MANY, "too many streams are open", retry_after=5)
    response = web.StreamResponse(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
    response.content_type = content_type
    response.charset = "utf-8"
    with _counted(request, context.streams, task):
        await response.prepare(request)
        try:
            yield response
        except ConnectionError:
            raise
        except Exception as error:
            log.error("stream %s failed", request.path, exc_info=error)
            raise ConnectionResetError("the stream failed") from error


@contextlib.contextmanager
def _counted(request: web.Request, streams: Streams, task: asyncio.Task[Any]) -> Iterator[None]:
    connection = request.protocol
    streams.add(task)
    if isinstance(connection, Connection):
        connection.on_lost = task.cancel
    try:
        yield
    finally:
        streams.discard(task)
        if isinstance(connection, Connection):
            connection.on_lost = None


async def tell(response: web.StreamResponse, live: Live, cursor: Cursor, limits: Limits) -> None:
    """Write what happens, as server-sent events, until the daemon stops.

    The stream begins with its place (an id without data), so that it can be resumed without a gap
    even if it is cut off before the first event.
    """
    clock = asyncio.get_running_loop().time
    await response.write(b"retry: 1000\n" + _place(cursor))
    news_due, heartbeat_due = clock(), clock() + limits.heartbeat
    while not live.closed:
        frames = [_event(event) for event in await cursor.events()]
        if cursor.has_news and clock() >= news_due:
            frames += _news(cursor)
            news_due = clock() + limits.news * random.uniform(1, UNEVEN)
        if not frames and clock() >= heartbeat_due:
            frames = [b": still here\n" + _place(cursor)]
        if frames:
            await _write(response, frames)
            heartbeat_due = clock() + limits.heartbeat
        if not cursor.behind:
            told = clock() < news_due  # so lately that what comes now waits
            due = min(news_due, heartbeat_due) if told else heartbeat_due
            await cursor.wait(max(0.0, due - clock()), news=not told)


async def _write(response: web.StreamResponse, frames: list[bytes]) -> None:
    """In pieces, so that a slow reader is seen to take something."""
    piece = bytearray()
    for frame in frames:
        piece += frame
        if len(piece) >= PIECE:
            await response.write(bytes(piece))
            piece.clear()
    if piece:
        await response.write(bytes(piece))


def _place(cursor: Cursor) -> bytes:
    return b"id: %d\n\n" % cursor.place


def _event(event: EventView) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.id, event.type.encode(), msgspec.json.encode(event))


def _news(cursor: Cursor) -> list[bytes]:
    progress, gpus = cursor.news()
    frames = [_frame(b"progress", news) for news in progress]
    return frames if gpus is None else [*frames, _frame(b"gpus", gpus)]


def _frame(kind: bytes, data: JobProgress | GpuList) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind, msgspec.json.encode(data))
