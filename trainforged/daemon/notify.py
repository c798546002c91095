"""Telling systemd how the daemon is (sd_notify(3)); without systemd nothing is said."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable

BEATS = 4  # in the time that the watchdog allows

log = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Send `READY=1`, `STOPPING=1`, `WATCHDOG=1`, … to the service manager, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto(state.encode(), address)
    except OSError as error:  # the manager is being restarted itself, say
        log.warning("the service manager cannot be told %s: %s", state.partition("\n")[0], error)


def reloading() -> None:
    """The settings are being read again; `READY=1` ends it."""
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_limit() -> float | None:
    """Seconds after which systemd takes a silent daemon for hung; None where nobody watches."""
    watched = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    limit = os.environ.get("WATCHDOG_USEC", "")
    return int(limit) / 1e6 if watched and limit.isdecimal() and int(limit) > 0 else None


async def feed_watchdog(work: Callable[[], Awaitable[None]]) -> None:
    """Feed it for as long as `work`, the way that all orders go, comes to an end each time."""
    limit = watchdog_limit()
    while limit is not None:
        await work()
        notify("WATCHDOG=1")
        await asyncio.sleep(limit / BEATS)
