"""Batch, decide, commit, publish, perform: the loop that all of the daemon's decisions go through.

What waits in the inbox forms one batch: one decision, one transaction. Memory changes only after
the commit; then replies are given and history is published; then effects are performed. Where a
commit fails (a full disk, say), who asked is told so, nothing has changed, and what the daemon
learnt by itself is kept and tried again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import msgspec

from trainforge.api import EventView
from trainforged.core import messages as m
from trainforged.core.machine import decide, next_wakeup, outstanding
from trainforged.core.state import State
from trainforged.daemon.watching.clock import ClockSteps, boot_time
from trainforged.storage.errors import StorageError, StorageFull
from trainforged.storage.jobs.store import Submission

log = logging.getLogger(__name__)
T = TypeVar("T")

LONGEST_SLEEP = 30.0  # seconds: a clock that is set, or a machine that was asleep, is noticed so late at most
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between tries of a commit that fails


class Store(Protocol):
    """The part of `storage.jobs.store.JobStore` that the engine needs."""

    def commit(
        self, changes: Sequence[m.Change], submissions: Mapping[str, Submission]
    ) -> tuple[EventView, ...]: ...


class Entry(msgspec.Struct, frozen=True):
    """One event in the inbox. `reply` is None where the daemon tells itself."""

    event: m.Event
    submissions: Mapping[str, Submission]
    reply: asyncio.Future[m.Reply] | None


class Engine:
    """Owns the state. All methods belong to the event loop's thread. `relieve` makes some room on a full
    disk, if it can: for what the daemon has learnt, not for what is asked of it. `clock` may be set at any
    time, `steady` is never."""

    def __init__(
        self,
        state: State,
        store: Store,
        *,
        perform: Callable[[m.Effect], None],
        publish: Callable[[Sequence[EventView]], None],
        relieve: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = boot_time,
    ) -> None:
        self.state = state
        self._store = store
        self._perform = perform
        self._publish = publish
        self._relieve = relieve
        self._clock = clock
        self._steps = ClockSteps(clock, steady)
        self._inbox: list[Entry] = []
        self._arrived = asyncio.Event()
        self._closing = False
        self._last_tick = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._turn = asyncio.Lock()  # while memory and disk differ

    # ---- the inbox

    async def ask(self, event: m.Event, submissions: Mapping[str, Submission] | None = None) -> m.Reply:
        """Put an event in and wait until it is decided and on disk. Raises `StorageError`."""
        reply: asyncio.Future[m.Reply] = asyncio.get_running_loop().create_future()
        self._inbox.append(Entry(event, submissions or {}, reply))
        self._arrived.set()
        return await reply

    def tell(self, event: m.Event) -> None:
        """Put an event in. It is not lost, also when a commit fails."""
        self._inbox.append(Entry(event, {}, None))
        self._arrived.set()

    async def between_commits(self, work: Callable[[], T]) -> T:
        """What `work` returns, done in a thread while disk and memory are equal and nothing is committed."""
        async with self._turn:
            return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    # ---- the loop

    async def start(self, *events: m.Event) -> None:
        """Take up what the last daemon left, before `run`: `events` (the machine and its GPUs as they are
        now) are decided in one batch, and orders that were not yet obeyed are given again."""
        await self._decide([Entry(event, {}, None) for event in events], False)
        for effect in outstanding(self.state):
            self._perform(effect)
        self._set_timer()

    async def run(self) -> None:
        """Work until `close`."""
        pause = FIRST_PAUSE
        while not (self._closing and not self._inbox):
            await self._arrived.wait()
            self._arrived.clear()
            batch, self._inbox = self._inbox, []
            if not batch:
                continue
            if by := self._steps.look():
                batch.insert(0, Entry(m.ClockSet(time=self._clock(), by=by), {}, None))
            try:
                await self._decide(batch, True)
                pause = FIRST_PAUSE
            except StorageError as error:
                log.error("nothing was changed: the commit failed: %s", error)
                self._give_back(batch, error)
                if isinstance(error, StorageFull) and self._relieve():
                    continue
                if self._closing:
                    return
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            self._set_timer()

    def close(self) -> None:
        """Finish what is in the inbox, then let `run` return."""
        self._closing = True
        self._arrived.set()
        if self._timer is not None:
            self._timer.cancel()

    async def _decide(self, batch: Sequence[Entry], effects: bool) -> None:
        try:
            decision = decide(self.state, [entry.event for entry in batch])
        except Exception as error:
            await self._one_by_one(batch, error)
            return
        submissions = {key: s for entry in batch for key, s in entry.submissions.items()}
        events: tuple[EventView, ...] = ()
        if decision.changes:
            async with self._turn:
                events = await asyncio.get_running_loop().run_in_executor(
                    self._writer, self._store.commit, decision.changes, submissions
                )
                self.state.apply(decision.changes)
        for entry, reply in zip(batch, decision.replies, strict=True):
            _answer(entry, reply)
        self._publish(events)
        for effect in decision.effects if effects else ():
            self._perform(effect)

    async def _one_by_one(self, batch: Sequence[Entry], error: Exception) -> None:
        """A batch that the core cannot digest: only the event at fault is refused."""
        if len(batch) > 1:
            for entry in batch:
                await self._decide([entry], True)
            return
        log.error("the core failed on %r", batch[0].event, exc_info=error)
        if batch[0].reply is not None and not batch[0].reply.done():
            batch[0].reply.set_exception(error)

    def _give_back(self, batch: Sequence[Entry], error: StorageError) -> None:
        """Tell who asked; keep what the daemon told itself for the next try."""
        for entry in batch:
            if entry.reply is not None and not entry.reply.done():
                entry.reply.set_exception(error)
        kept = [entry for entry in batch if entry.reply is None]
        self._inbox[:0] = kept
        if kept:
            self._arrived.set()

    # ---- time

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = next_wakeup(self.state, min(self._last_tick, self._clock()))
        if due is not None and not self._closing:
            delay = max(0.0, due - self._clock())
            self._timer = asyncio.get_running_loop().call_later(min(delay, LONGEST_SLEEP), self._tick)

    def _tick(self) -> None:
        self._last_tick = self._clock()
        self.tell(m.TimePassed(time=self._last_tick))


def _answer(entry: Entry, reply: m.Reply) -> None:
    if entry.reply is not None:
        if not entry.reply.done():
            entry.reply.set_result(reply)
    elif isinstance(reply, m.Refused):
        log.debug("%s: %s", type(entry.event).__name__, reply.message)
