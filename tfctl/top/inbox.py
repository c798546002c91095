"""Where threads and signals wake the main thread, and leave what they have to say."""

from __future__ import annotations

import contextlib
import os
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """`fd` becomes readable when something was put in since `drain`. Close it when no thread is left."""

    def __init__(self) -> None:
        self.fd, self.alarm = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._queue: SimpleQueue[T] = SimpleQueue()

    def put(self, message: T) -> None:
        """From any thread. After `close` nobody reads it, and nothing is wrong with that."""
        self._queue.put(message)
        with contextlib.suppress(OSError):  # full: somebody else's byte wakes the reader
            os.write(self.alarm, b"\0")

    def drain(self) -> list[T]:
        """Everything that was put in, in order."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.fd, 4096):
                pass
        out = []
        with contextlib.suppress(Empty):
            while True:
                out.append(self._queue.get_nowait())
        return out

    def close(self) -> None:
        alarm, self.alarm = self.alarm, -1
        os.close(alarm)
        os.close(self.fd)
