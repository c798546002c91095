"""The daemon's event stream, read without a gap: it is resumed after the last event that was given.

Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from trainforge.api import EventView, GpuList, JobProgress
from trainforge.client.http1 import LOST
from trainforge.client.sockets import NoDaemon
from trainforge.client.transport import Stream

Item = EventView | JobProgress | GpuList
Open = Callable[[int | None], Stream]
"""Opens the stream after the event with this id; raises NoDaemon."""

LONGEST_PAUSE = 1.0  # seconds between two tries to reconnect


class Frame(NamedTuple):
    """One block of the stream; `data` is empty where it only tells the place."""

    id: int | None
    type: str
    data: bytes


class EventStream:
    """An iterator over events, and over progress and GPU figures, which have no id.

    Without `reconnect` it raises NoDaemon when the daemon goes away; with it, it waits until the
    daemon is there again (`connected` says so meanwhile). It ends when it is closed, which any
    thread may do.
    """

    def __init__(self, open: Open, after: int | None, reconnect: bool) -> None:
        self.place = after  # id of the newest event that was given or passed over
        self.connected = False
        self._open = open
        self._reconnect = reconnect
        self._closed = threading.Event()
        self._stream: Stream | None = None
        self._items = self._follow()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        return next(self._items)

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def connect(self) -> None:
        """Connect now rather than with the first item: what happens from now on is not missed."""
        if self._stream is None:
            stream = self._open(self.place)
            self._stream, self.connected = stream, True
            if self._closed.is_set():
                stream.interrupt()

    def close(self) -> None:
        """From any thread: the iteration ends."""
        self._closed.set()
        stream = self._stream
        if stream is not None:
            stream.interrupt()

    def _follow(self) -> Iterator[Item]:
        pause = 0.05
        while not self._closed.is_set():
            try:
                self.connect()
                assert self._stream is not None
                for item in self._items_of(self._stream):
                    pause = 0.05
                    yield item
                problem = NoDaemon({})
            except NoDaemon as error:
                problem = error
            self._lose()
            if self._closed.is_set():
                return
            if not self._reconnect:
                raise problem
            self._closed.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _items_of(self, stream: Stream) -> Iterator[Item]:
        """Until the stream ends, in whatever way."""
        for frame in frames(_chunks(stream)):
            if frame.id is not None:
                self.place = frame.id
            if frame.data:
                yield _item(frame)

    def _lose(self) -> None:
        stream, self._stream = self._stream, None
        self.connected = False
        if stream is not None:
            stream.close()


def _chunks(stream: Stream) -> Iterator[bytes]:
    while True:
        try:
            chunk = stream.read()
        except LOST:
            return
        if not chunk:
            return
        yield chunk


def frames(chunks: Iterator[bytes]) -> Iterator[Frame]:
    """Blocks of the stream, whole ones only. Lines end with a newline."""
    rest = b""
    for chunk in chunks:
        *blocks, rest = (rest + chunk).split(b"\n\n")
        for block in blocks:
            yield _frame(block)


def _frame(block: bytes) -> Frame:
    id: int | None = None
    type, data = "", b""
    for line in block.split(b"\n"):
        name, _, value = line.partition(b": ")
        if name == b"id":
            id = int(value)
        elif name == b"event":
            type = value.decode()
        elif name == b"data":
            data = value
    return Frame(id, type, data)


def _item(frame: Frame) -> Item:
    if frame.id is not None:
        return msgspec.json.decode(frame.data, type=EventView)
    if frame.type == "gpus":
        return msgspec.json.decode(frame.data, type=GpuList)
    return msgspec.json.decode(frame.data, type=JobProgress)
