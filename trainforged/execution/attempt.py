"""One attempt as the daemon sees it: started or found, accompanied to its end.

Whatever a former daemon did, or failed to finish, is read from the attempt's folder. There is one
way through, and each turn of it begins with a look, so that every step is safe to repeat:

    Fresh      prepare and spawn a shim (or, where nothing may be started, write `lost`)
    Beginning  a shim has the lock; in a moment it says who it is
    Running    tell that it started, wait for its end
    Vanished   kill what is left, write `lost`
    Ended      done
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable

import msgspec

from trainforge.protocol import ATTEMPT_DIR, TOKEN
from trainforged.core.messages import AttemptEnd, StartAttempt
from trainforged.execution import leftovers, processes
from trainforged.execution.folder import AttemptFolder, Beginning, Ended, Fresh, Running, Shim, Vanished
from trainforged.execution.launch import CannotStart, Launch, LaunchFile, Prepare
from trainforged.execution.observing.usage import Family
from trainforged.execution.starting import nearness, nodes, systemd
from trainforged.execution.starting.groups import Groups
from trainforged.execution.starting.spawn import Contained, Spawned, reap_at_end, spawn, spawn_contained
from trainforged.execution.waiting import Threads, readable

MOMENT = 0.01  # seconds between two looks at a shim that is about to say who it is
TROUBLE = 1.0  # seconds before another look, where the disk refused one
CLEANING = 30.0  # seconds given to what is left of a lost attempt before its end is told all the same
LONGEST_START = 30.0  # seconds before another look at a shim of which nothing is heard
OVERDUE = 60.0  # seconds beyond its grace until a shim that does not obey is killed itself
MOST_SPAWNS = 3  # shims that may leave without a trace before the attempt is given up

log = logging.getLogger(__name__)


class Means(msgspec.Struct, frozen=True, kw_only=True):
    """What all attempts of a supervisor share. `reached` is told named points: tests kill there."""

    prepare: Prepare
    threads: Threads
    lock_prefix: str
    python: str | None
    manager: Callable[[], systemd.Manager | None]
    groups: Groups | None
    reached: Callable[[str], None]


class Attempt:
    """`live` is awaited once, by its supervisor; `start` is None where nothing may be started."""

    def __init__(
        self,
        folder: AttemptFolder,
        start: StartAttempt | None,
        means: Means,
        running: Callable[[int], None],
    ) -> None:
        self._folder = folder
        self._start = start
        self._means = means
        self._running = running  # told the shim's pid, each time it is found to run
        self._grace: float | None = None  # of a stop that was ordered
        self._preparing: asyncio.Future[Launch] | None = None
        self._pidfd: int | None = None
        self._spawns = 0
        self._ran = False
        self._overdue: asyncio.TimerHandle | None = None
        self.family: Family = ()  # its processes when they were last counted

    def stop(self, grace: float) -> None:
        """Have it stopped, whatever it is doing. Zero or less: at once. Again: only sooner."""
        self._grace = grace
        if self._preparing is not None:
            self._preparing.cancel()
        if self._pidfd is not None:
            self._pass_on(self._pidfd, grace)

    async def live(self) -> AttemptEnd:
        """See it through; how it ended."""
        told = ""
        while True:
            try:
                end = await self._turn()
            except Exception as error:  # whatever it is, the attempt may run: look again
                if repr(error) != told:
                    log.exception("an attempt cannot be looked at: %s", self._folder.path)
                told = repr(error)
                await asyncio.sleep(TROUBLE)
            else:
                if end is not None:
                    return end

    async def _turn(self) -> AttemptEnd | None:
        """One look, and what follows from it. None: look again."""
        match await self._means.threads.run(self._folder.look):
            case Ended(end):
                return end
            case Running(shim, pidfd):
                self._ran = True
                await self._accompany(shim.pid, pidfd)
            case Beginning():
                await asyncio.sleep(MOMENT)
            case Vanished(shim):
                return await self._lose(shim)
            case Fresh() if self._ran:  # somebody removed its folder: that does not make it fresh
                return await self._conclude(_lost(None))
            case Fresh() if self._start is None and self._grace is None:
                return await self._conclude(_lost(None))
            case Fresh():
                return await self._begin()
        return None

    # ---- the beginning

    async def _begin(self) -> AttemptEnd | None:
        try:
            launch = await self._prepared()
            spawned = await self._means.threads.run(self._spawn, launch)
        except _Stopped:
            return await self._conclude(AttemptEnd(ended_at=time.time(), stopped=True))
        except CannotStart as error:
            return await self._conclude(_refused(str(error), error.hopeless))
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            return await self._conclude(_refused(f"the attempt cannot be laid out: {error.strerror}{where}"))
        except Exception as error:
            log.exception("preparing %s failed", self._folder.path)
            return await self._conclude(_refused(f"the daemon failed to prepare the attempt: {error!r}"))
        await self._ready(spawned)
        return None

    async def _prepared(self) -> Launch:
        if self._grace is not None or self._start is None:
            raise _Stopped
        if self._spawns == MOST_SPAWNS:
            said = await self._means.threads.run(self._folder.last_words)
            raise CannotStart(f"the shim does not start: {said or 'it says nothing'}")
        await self._means.threads.run(self._lay_out)
        self._preparing = asyncio.ensure_future(self._means.prepare(self._start, self._folder.path))
        try:
            launch = await self._preparing
        except asyncio.CancelledError:
            if self._grace is not None:  # it was `stop` that cancelled it
                raise _Stopped from None
            raise
        finally:
            self._preparing = None
        self._means.reached("prepared")
        return launch

    def _lay_out(self) -> None:
        self._folder.path.mkdir(parents=True, exist_ok=True)
        self._means.reached("folder made")

    def _spawn(self, launch: Launch) -> Spawned | Contained:
        assert self._start is not None
        token = self._folder.new_token(self._start.job, self._start.attempt)
        marks = {TOKEN: token, ATTEMPT_DIR: str(self._folder.path)}
        fields = msgspec.structs.asdict(launch) | {"env": {**launch.env, **marks}}
        manager = self._means.manager()
        group = self._group(token, launch.processes) if manager is None else None
        near = nearness.cores(self._start.gpus, self._start.cpu)
        order = LaunchFile(
            **fields, token=token, gpus=self._start.gpus, lock_prefix=self._means.lock_prefix, group=group,
            cores=near,
        )  # fmt: skip
        self._folder.write_order(order)
        self._means.reached("order written")
        contained = self._contained(manager, token, launch, near) if manager is not None else None
        spawned = contained or spawn(self._folder.path, token, self._means.python)
        self._spawns += 1
        self._means.reached("spawned")
        return spawned

    def _group(self, token: str, processes: int) -> str | None:
        """A control group for the command; None where that cannot be had."""
        assert self._start is not None
        if self._means.groups is None:
            return None
        start = self._start
        return self._means.groups.make(token, cpu=start.cpu, memory=start.memory, processes=processes)

    def _contained(
        self, manager: systemd.Manager, token: str, launch: Launch, near: tuple[int, ...]
    ) -> Contained | None:
        """A shim in a unit of its own; None where the manager refuses."""
        assert self._start is not None
        order = self._start
        try:
            unit = systemd.unit_of(
                token, order.job, order.attempt, cpu=order.cpu, memory=order.memory, grace=launch.grace,
                processes=launch.processes, devices=nodes.allowed(order.gpus), near=near,
            )  # fmt: skip
            return spawn_contained(manager, unit, self._folder.path, token, self._means.python)
        except (systemd.NotContained, OSError) as error:
            log.warning("%s is started without a unit of its own: %s", self._folder.path, error)
            return None

    async def _ready(self, spawned: Spawned | Contained) -> None:
        """Until the command runs, or the shim has left. The shim is reaped whenever that is."""
        if isinstance(spawned, Spawned):
            reap_at_end(spawned)
        try:
            while not await self._heard_of(spawned.ready):
                if isinstance(spawned, Contained) or await self._means.threads.run(self._announced):
                    break
        finally:
            os.close(spawned.ready)
        self._means.reached("ready")

    async def _heard_of(self, ready: int) -> bool:
        try:
            async with asyncio.timeout(LONGEST_START):
                await readable(ready)
        except TimeoutError:
            return False
        return True

    def _announced(self) -> bool:
        """The shim has begun. If it says no more, the command may have stopped it at once: orders are
        to reach it all the same."""
        return (self._folder.path / "shim.json").exists()

    # ---- the middle

    async def _accompany(self, pid: int, pidfd: int) -> None:
        self._pidfd = pidfd
        try:
            self._running(pid)
            if self._grace is not None:
                self._pass_on(pidfd, self._grace)
            await readable(pidfd)
        finally:
            self._pidfd = None
            os.close(pidfd)
            if self._overdue is not None:
                self._overdue.cancel()
        self._means.reached("ended")

    def _pass_on(self, pidfd: int, grace: float) -> None:
        """Give the order to the shim. A second SIGTERM is nothing new to it."""
        try:
            if grace > 0:
                self._folder.write_grace(grace)
        except OSError:
            log.warning("the grace of %s cannot be written: its own counts", self._folder.path)
        _send(pidfd, signal.SIGTERM if grace > 0 else signal.SIGUSR1)
        _send(pidfd, signal.SIGCONT)  # a shim that somebody stopped would not hear it
        if self._overdue is not None:
            self._overdue.cancel()
        loop = asyncio.get_running_loop()
        self._overdue = loop.call_later(max(0.0, grace) + OVERDUE, self._give_up_shim, pidfd)

    def _give_up_shim(self, pidfd: int) -> None:
        """It does not obey; what it leaves is cleared away as of any shim that was lost."""
        log.error("the shim of %s does not stop: it is killed", self._folder.path)
        _send(pidfd, signal.SIGKILL)

    # ---- the end

    async def _lose(self, shim: Shim) -> AttemptEnd | None:
        """Nobody will ever know how it ended; see to it at least that it has."""
        token = await self._means.threads.run(self._folder.token)
        if token is not None:
            group = await self._means.threads.run(self._folder.group)
            left = await self._means.threads.run(leftovers.kill_all, token, group, looks=3, patience=CLEANING)
            if left:
                log.warning("of a lost attempt (%s) %s is left", self._folder.path, leftovers.describe(left))
        await self._means.threads.run(leftovers.kill_family, self.family)
        rebooted = shim.boot_id != processes.boot_id()
        return await self._conclude(_lost(shim.time, rebooted))

    async def _conclude(self, end: AttemptEnd) -> AttemptEnd | None:
        try:
            return await self._means.threads.run(self._folder.conclude, end)
        except OSError as error:
            # No shim can write here either, so none can begin behind our back.
            log.error("the end of %s cannot be written: %s", self._folder.path, error)
            return end


def _send(pidfd: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile: that is told anyway
        signal.pidfd_send_signal(pidfd, number)


class _Stopped(Exception):
    """It was to be stopped before it had begun."""


def _lost(started_at: float | None, rebooted: bool = False) -> AttemptEnd:
    return AttemptEnd(started_at=started_at, ended_at=time.time(), lost=True, rebooted=rebooted)


def _refused(sentence: str, hopeless: bool = False) -> AttemptEnd:
    return AttemptEnd(ended_at=time.time(), start_error=sentence, hopeless=hopeless)
