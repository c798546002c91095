"""Room on the disk of the state folder: without it, jobs that ended for want of it are not started."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from trainforged.core import messages as m
from trainforged.daemon.engine import Engine
from trainforged.daemon.reserve import Reserve

log = logging.getLogger(__name__)

INTERVAL = 5.0  # seconds between two looks


def has_room(folder: Path, least: int) -> bool:
    """At least `least` bytes are free, or a tenth of a small disk. True where that cannot be told."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return True
    return usage.free >= min(least, usage.total // 10)


class RoomWatch:
    """Tells the engine when room comes or goes, and takes the reserve when there is some. `least` is in
    bytes, and may change with the settings."""

    def __init__(
        self,
        folder: Path,
        engine: Engine,
        reserve: Reserve,
        least: Callable[[], int],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._engine = engine
        self._reserve = reserve
        self._least = least
        self._clock = clock

    async def run(self) -> None:
        """Look until cancelled."""
        known = self._engine.state.machine.room
        while True:
            room = await asyncio.to_thread(has_room, self._folder, self._least())
            if room != known:
                log.warning("the disk of %s %s", self._folder, "has room again" if room else "is full")
                self._engine.tell(m.RoomChanged(time=self._clock(), room=room))
                known = room
            if room:
                await asyncio.to_thread(self._reserve.take)
            await asyncio.sleep(INTERVAL)
