"""Looks after the databases while they are open: what is damaged under the daemon is told, and written anew.

trainforge.db comes from its second copy and from memory, metrics.db from the records in the jobs' folders,
accounts.db from what can still be read of it and from memory.
The old files stay beside them. What cannot be written anew is `problem` until it can; nothing is committed
meanwhile to a file that is not there, and jobs go on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from trainforged.core import messages as m
from trainforged.daemon.engine import Engine
from trainforged.storage.errors import StorageError
from trainforged.storage.jobs.store import JobStore, Truth

log = logging.getLogger(__name__)

Look = Callable[[], str | None]
Mend = Callable[[], Awaitable[Path]]

INTERVAL = 2.0  # seconds between two looks


class SoundnessWatch:
    """`others`, by name: how each is looked at, and written anew, which returns where the old one lies."""

    def __init__(
        self,
        engine: Engine,
        store: JobStore,
        others: Mapping[str, tuple[Look, Mend]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._store = store
        self._others = others
        self._clock = clock
        self.problem: str | None = None

    async def run(self) -> None:
        """Look until cancelled."""
        await asyncio.gather(self._watch_jobs(), *map(self._watch_other, self._others))

    async def _watch_jobs(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            self._say(await self._look("trainforge.db", self._store.look, self._mend))

    async def _watch_other(self, name: str) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            await self._look(name, *self._others[name])

    async def _look(self, name: str, look: Look, mend: Mend) -> str | None:
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
