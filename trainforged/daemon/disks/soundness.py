"""Looks after the databases while they are open: what is damaged under the daemon is told, and written anew.

trainforge.db comes from its second copy and from memory, metrics.db from the records in the jobs' folders.
The old files stay beside them. What cannot be written anew is `problem` until it can; nothing is committed
meanwhile to a file that is not there, and jobs go on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from trainforged.core import messages as m
from trainforged.daemon.engine import Engine
from trainforged.storage.errors import StorageError
from trainforged.storage.jobs.store import JobStore, Truth
from trainforged.storage.metrics.store import MetricStore

log = logging.getLogger(__name__)

INTERVAL = 2.0  # seconds between two looks


class SoundnessWatch:
    """`start_over` begins metric storage anew and returns where the old one lies."""

    def __init__(
        self,
        engine: Engine,
        store: JobStore,
        metrics: MetricStore,
        start_over: Callable[[], Awaitable[Path]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._store = store
        self._metrics = metrics
        self._start_over = start_over
        self._clock = clock
        self.problem: str | None = None

    async def run(self) -> None:
        """Look until cancelled."""
        await asyncio.gather(self._watch_jobs(), self._watch_metrics())

    async def _watch_jobs(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            self._say(await self._look("trainforge.db", self._store.look, self._mend))

    async def _watch_metrics(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            await self._look("metrics.db", self._metrics.look, self._start_over)

    async def _look(
        self, name: str, look: Callable[[], str | None], mend: Callable[[], Awaitable[Path]]
    ) -> str | None:
        """What is wrong and stays so."""
        flaw = None
        try:
            flaw = await asyncio.to_thread(look)
            if flaw is None:
                return None
            aside = await mend()
        except (StorageError, OSError) as error:
            return f"{name}: {flaw}, and it cannot be written anew: {error}" if flaw else f"{name}: {error}"
        message = f"{name} was damaged under the daemon ({flaw}); it was written anew, {_lies(aside)}"
        log.error("%s", message)
        self._engine.tell(m.DatabaseMended(time=self._clock(), message=message))
        return None

    async def _mend(self) -> Path:
        state = self._engine.state
        truth = Truth(jobs=state.jobs, leases=state.leases, devices=state.devices)
        return await self._engine.between_commits(lambda: self._store.mend(truth))

    def _say(self, problem: str | None) -> None:
        if problem is not None and problem != self.problem:
            log.error("%s", problem)
        self.problem = problem


def _lies(aside: Path) -> str:
    return f"and what was there lies at {aside}" if aside.exists() else "and nothing of it was left"
