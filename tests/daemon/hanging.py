"""`trainforged` that hangs on its way down, or is told to stop on its way up.

`python -m tests.daemon.hanging` with its options, $HANGS naming what hangs, or $STOPPED_IN where it is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from trainforged.__main__ import main
from trainforged.core import messages as m
from trainforged.daemon import life, stopping
from trainforged.daemon.engine import Engine
from trainforged.daemon.front import Front
from trainforged.daemon.life import Daemon
from trainforged.daemon.opened import Opened
from trainforged.daemon.parts import Parts
from trainforged.execution.supervisor import Supervisor
from trainforged.execution.threads import in_thread
from trainforged.storage.database import Database
from trainforged.storage.jobs.store import JobStore

LONGEST = 1.0
PLACES: dict[str, tuple[type, str]] = {
    "opening": (Opened, "__init__"),
    "making the parts": (Parts, "__init__"),
    "taking up": (Daemon, "_take_up"),
    "taking up in the engine": (Engine, "start"),
    "beginning": (Daemon, "_begin"),
    "opening the socket": (Front, "open"),
    "announcing": (Daemon, "_announce"),
}


def forever(*_: object) -> NoReturn:
    """As a thread in the kernel: it holds nothing of Python, and nothing ends it."""
    while True:
        time.sleep(3600.0)


async def deaf() -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600.0)


async def in_a_pool(self: Supervisor) -> None:
    await self._threads.run(forever)


def hang_in_a_commit(daemon: Daemon) -> None:
    JobStore.commit = forever  # type: ignore[method-assign,assignment]
    daemon._parts.engine.tell(m.DatabaseMended(time=time.time(), message="something to commit"))


HANGING: dict[str, Callable[[Daemon], object]] = {
    "a thread of asyncio's": lambda daemon: daemon._tasks.spawn(asyncio.to_thread(forever)),
    "a thread of the supervisor's": lambda daemon: daemon._tasks.spawn(in_a_pool(daemon._parts.supervisor)),
    "a thread for files": lambda daemon: daemon._tasks.spawn(in_thread(forever)),
    "a task": lambda daemon: daemon._tasks.spawn(deaf()),
    "a commit": hang_in_a_commit,
    "closing storage": lambda daemon: setattr(Database, "close", forever),
    "the event loop": forever,
    "a thread at the end": lambda daemon: threading.Thread(target=forever).start(),
}


def hang(what: str) -> None:
    stopping.LOOK_EVERY = 0.1
    limit = stopping.StopLimit
    life.StopLimit = lambda: limit(LONGEST)  # type: ignore[misc,assignment]
    announce = Daemon._announce

    def announce_and_hang(self: Daemon) -> None:
        announce(self)
        HANGING[what](self)

    Daemon._announce = announce_and_hang  # type: ignore[method-assign]


def be_stopped(where: str) -> None:
    """In the middle of it, or as soon as it waits."""
    owner, name = PLACES[where]
    part = getattr(owner, name)

    def stopped(*args: Any, **kwargs: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return part(*args, **kwargs)

    setattr(owner, name, stopped)


if __name__ == "__main__":
    if what := os.environ.get("HANGS"):
        hang(what)
    if where := os.environ.get("STOPPED_IN"):
        be_stopped(where)
    sys.exit(main())
