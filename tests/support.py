"""What tests of all parts share."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from trainforged.execution.observing.sockets import connections

T = TypeVar("T")
PAUSE = 0.005


def wait_for(condition: Callable[[], T], seconds: float = 60.0, what: str = "") -> T:
    """What the condition gives once that is true; an AssertionError if it never is in that time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        time.sleep(PAUSE)
    return found


async def until(condition: Callable[[], T], seconds: float = 60.0, what: str = "") -> T:
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


def quickest(measure: Callable[[], float], limit: float, tries: int = 5) -> float:
    """The least of what is measured, seconds say: again until it is below the limit, at most so often.

    What others do on the machine makes a measurement greater and never smaller: one below the limit shows
    that the code is quick enough, and code that is too slow is so each time.
    """
    return min(_until_below(measure, limit, tries))


def spent(call: Callable[[], object]) -> float:
    """Processor time that this process needs for it, in seconds."""
    began = time.process_time()
    call()
    return time.process_time() - began


def _until_below(measure: Callable[[], float], limit: float, tries: int) -> Iterator[float]:
    for _ in range(tries):
        yield (seconds := measure())
        if seconds < limit:
            return


_ports: list[socket.socket] = []  # locks on ports, held for as long as this process lives


def free_port() -> int:
    """A port that stays free until it is taken, also while who has it is away for a moment.

    It lies below those that the kernel gives to clients, and no other test that asks here is given it.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 20_000)
        lock = socket.socket(socket.AF_UNIX)
        with socket.socket() as probe:
            try:
                lock.bind(f"\0trainforge-tests-port-{port}")
                probe.bind(("127.0.0.1", port))
            except OSError:
                lock.close()
                continue
        _ports.append(lock)
        return port
