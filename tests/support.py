"""What tests of all parts share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from trainforged.execution.observing.sockets import connections

T = TypeVar("T")
PAUSE = 0.005


def wait_for(condition: Callable[[], T], seconds: float = 20.0, what: str = "") -> T:
    """What the condition gives once that is true; an AssertionError if it never is in that time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        time.sleep(PAUSE)
    return found


async def until(condition: Callable[[], T], seconds: float = 20.0, what: str = "") -> T:
    """`wait_for` that lets the event loop run meanwhile."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        await asyncio.sleep(PAUSE)
    return found


def tcp_is_counted() -> bool:
    """Whether this kernel tells what TCP connections carry (`inet_diag`)."""
    try:
        list(connections())
    except OSError:
        return False
    return True
