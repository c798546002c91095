"""Samples once a second, handed to whoever waits for new ones. The daemon runs one `Feed`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from trainforged.devices.history import History
from trainforged.devices.inventory import Inventory, Sample

Samples = tuple[Sample, ...]


class Feed:
    """The loop over an inventory. `latest` is empty until `run` has heard from it."""

    def __init__(
        self,
        inventory: Inventory,
        *,
        interval: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.latest: Samples = ()
        self.history = History()
        self._inventory = inventory
        self._interval = interval
        self._clock = clock
        self._count = 0
        self._asking = False
        self._next: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Samples until cancelled, however badly the driver answers."""
        due = self._clock()
        while True:
            self._asking = True
            samples = await self._inventory.sample()
            self._asking = False
            self.publish(samples)
            due = max(due + self._interval, self._clock())  # late is late: no burst to catch up
            await asyncio.sleep(due - self._clock())

    def publish(self, samples: Samples) -> None:
        self.latest = samples
        self.history.add(self._clock(), samples)
        self._count += 1
        waited, self._next = self._next, None
        if waited is not None:
            waited.set_result(None)

    async def updates(self) -> AsyncIterator[Samples]:
        """Samples that are new from now on. Whoever is slow misses some, never the newest."""
        seen = self._count
        while True:
            if self._count == seen:
                self._next = self._next or asyncio.get_running_loop().create_future()
                await asyncio.shield(self._next)
            seen = self._count
            yield self.latest

    async def updates_asked_for(self) -> AsyncIterator[Samples]:
        """Those of them that the driver was asked for from now on: an answer that is still under way may tell
        of a moment that is over."""
        under_way = self._asking
        async for samples in self.updates():
            if not under_way:
                yield samples
            under_way = False
