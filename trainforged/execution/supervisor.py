"""Performs the core's orders about attempts: start, adopt, stop, release.

Each order returns at once and never raises; what comes of it is told as an event. Each is safe to
give again, in this daemon or the next: it is keyed by the attempt, and what has been done already is
read from the attempt's folder. Attempts do not depend on this object: closing it leaves them alone.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import msgspec

from trainforge.api import Usage
from trainforged.core.messages import (
    AdoptAttempt,
    AttemptEnded,
    AttemptStarted,
    Effect,
    Event,
    LeaseReleased,
    ReleaseLease,
    StartAttempt,
    StopAttempt,
)
from trainforged.execution.attempt import Attempt, Means
from trainforged.execution.folder import AttemptFolder
from trainforged.execution.launch import LOCK_PREFIX, GpusClear, Prepare
from trainforged.execution.observing import usage as meter
from trainforged.execution.observing.traffic import Traffic
from trainforged.execution.release import release
from trainforged.execution.starting import systemd
from trainforged.execution.starting.groups import Groups
from trainforged.execution.waiting import Threads, cancel

THREADS = 8
METER_PERIOD = 2.0  # seconds between two samples of usage

Key = tuple[int, int]  # job, attempt
log = logging.getLogger(__name__)


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt whose shim runs."""

    job: int
    attempt: int
    shim: int  # pid


class Supervisor:
    """Lives in one event loop. `tell` is called in it; `prepare` and `gpus_clear` are the daemon's.

    `manager` is asked before each start who puts the attempt in a unit of its own, if anybody; else it has
    a group of `groups`, if there are any.
    """

    def __init__(
        self,
        state_dir: Path,
        tell: Callable[[Event], None],
        prepare: Prepare,
        gpus_clear: GpusClear,
        *,
        lock_prefix: str = LOCK_PREFIX,
        python: str | None = None,
        manager: Callable[[], systemd.Manager | None] = lambda: None,
        groups: Groups | None = None,
        reached: Callable[[str], None] = lambda point: None,
    ) -> None:
        self._state_dir = state_dir
        self._tell = tell
        self._gpus_clear = gpus_clear
        self._threads = Threads(THREADS, "supervisor")
        self._means = Means(
            prepare=prepare,
            threads=self._threads,
            lock_prefix=lock_prefix,
            python=python,
            manager=manager,
            groups=groups,
            reached=reached,
        )
        self._attempts: dict[Key, Attempt] = {}
        self._work: dict[tuple[str, Key], asyncio.Task[None]] = {}  # what is being done, once each
        self._tasks: set[asyncio.Task[None]] = set()
        self._live: dict[Key, Live] = {}
        self._totals: dict[int, meter.Total] = {}
        self._traffic = Traffic()
        self._usage: dict[int, Usage] = {}
        self._meter: asyncio.Task[None] | None = None
        self._closed = False

    # ---- orders

    def start(self, order: StartAttempt) -> None:
        """Answered by `AttemptStarted` or `AttemptEnded`."""
        self._see_to(order, order)

    def adopt(self, order: AdoptAttempt) -> None:
        """Answered as `start`; starts nothing."""
        self._see_to(order, None)

    def stop(self, order: StopAttempt) -> None:
        """Answered by `AttemptEnded`."""
        if _key(order) not in self._attempts:
            self._see_to(order, None)
        if (attempt := self._attempts.get(_key(order))) is not None:
            attempt.stop(order.grace)

    def release(self, order: ReleaseLease) -> None:
        """Answered by `LeaseReleased`."""
        self._begin("release", _key(order), self._release(order))

    # ---- views

    def attempts(self) -> tuple[Live, ...]:
        """Those whose shim runs, as far as is known now."""
        return tuple(self._live.values())

    def usage(self, job: int) -> Usage | None:
        """Of the job's running attempt, at most `METER_PERIOD` old; None before the first sample."""
        return self._usage.get(job)

    async def processes(self) -> dict[int, int]:
        """pid → job, of every process of a running attempt, now."""
        totals = await self._threads.run(meter.sample, self._shims())
        return {pid: job for job, total in totals.items() for pid in total.pids}

    async def close(self) -> None:
        """Stop looking. Attempts go on; what is ordered from now on is left to the next daemon."""
        self._closed = True
        await cancel([*self._tasks, *([self._meter] if self._meter else [])])
        self._threads.close()

    # ---- attempts

    def _see_to(self, order: Effect, start: StartAttempt | None) -> None:
        key = _key(order)
        if key in self._live:  # asked again: answer again
            self._tell(AttemptStarted(job=order.job, attempt=order.attempt, time=time.time()))
        if key in self._attempts or self._closed:
            return
        attempt = Attempt(self._folder(key), start, self._means, lambda shim: self._running(key, shim))
        self._attempts[key] = attempt
        self._begin("attempt", key, self._accompany(key, attempt))

    async def _accompany(self, key: Key, attempt: Attempt) -> None:
        try:
            end = await attempt.live()
        finally:
            del self._attempts[key], self._work["attempt", key]
            self._live.pop(key, None)
            self._usage.pop(key[0], None)
        self._means.reached("end known")
        jitter = random.random()
        self._tell(AttemptEnded(job=key[0], attempt=key[1], end=end, time=time.time(), jitter=jitter))

    def _running(self, key: Key, shim: int) -> None:
        self._live[key] = Live(job=key[0], attempt=key[1], shim=shim)
        self._tell(AttemptStarted(job=key[0], attempt=key[1], time=time.time()))
        if self._meter is None or self._meter.done():
            self._meter = asyncio.create_task(self._measure())

    # ---- release

    async def _release(self, order: ReleaseLease) -> None:
        key = _key(order)
        running = self._work.get(("attempt", key))
        try:
            if running is not None:
                await asyncio.wait([running])
            self._means.reached("release begun")
            stuck = await release(self._folder(key), order.gpus, self._threads, self._gpus_clear)
            self._means.reached("released")
        finally:
            del self._work["release", key]
        self._tell(LeaseReleased(job=order.job, attempt=order.attempt, stuck=stuck, time=time.time()))

    # ---- usage

    def _shims(self) -> dict[int, int]:
        return {live.job: live.shim for live in self._live.values()}

    async def _measure(self) -> None:
        """While attempts run."""
        while self._live:
            try:
                await self._measure_once()
            except Exception:  # the figures are late; the attempts are none the worse
                log.exception("what attempts use could not be measured")
            await asyncio.sleep(METER_PERIOD)
        self._usage, self._totals = {}, {}

    async def _measure_once(self) -> None:
        totals = await self._threads.run(meter.sample, self._shims(), self._traffic)
        usage = {job: meter.rate(self._totals.get(job), now) for job, now in totals.items()}
        self._usage = {job: now for job, now in usage.items() if job in self._shims()}
        self._totals = totals
        for (job, _), attempt in self._attempts.items():
            if job in totals:
                attempt.family = totals[job].family

    # ---- helpers

    def _folder(self, key: Key) -> AttemptFolder:
        return AttemptFolder(self._state_dir / "jobs" / str(key[0]) / "attempts" / str(key[1]))

    def _begin(self, what: str, key: Key, work: Coroutine[None, None, None]) -> None:
        """Unless the same is being done already. The work itself takes its entry out, before it tells."""
        if (what, key) in self._work or self._closed:
            work.close()
            return
        task = asyncio.create_task(work, name=f"{what} {key[0]}.{key[1]}")
        self._work[what, key] = task
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("%s failed", task.get_name(), exc_info=task.exception())


def _key(order: Effect) -> Key:
    return order.job, order.attempt
