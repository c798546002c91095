"""One daemon from start to stop: parts are set up in order, and taken down in reverse.

Start: the state folder is locked, storage opened, GPUs looked at, former attempts taken up, and only
then the socket opened. Stop (SIGTERM): the socket closes, what was accepted is on disk, jobs go on. What
hangs meanwhile is left behind (`stopping`).
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial

import trainforge
from trainforged.config import ConfigError
from trainforged.core import messages as m
from trainforged.daemon.disks.room import RoomWatch
from trainforged.daemon.front import Front
from trainforged.daemon.notify import feed_watchdog, notify, reloading
from trainforged.daemon.opened import Opened
from trainforged.daemon.options import Options, Settings, machine
from trainforged.daemon.parts import Parts
from trainforged.daemon.promptness import take_short_turns
from trainforged.daemon.stopping import StopLimit
from trainforged.daemon.tasks import Tasks
from trainforged.storage.errors import StorageError
from trainforged.storage.statedir import lock_state_dir, refuse_network_file_system
from trainforged.web.serving import SocketTaken, inherited_socket, raise_descriptor_limit

log = logging.getLogger("trainforged")


SWITCH = 0.0005  # seconds until a thread that reads records lets the event loop have its turn


COLLECTIONS = 2000, 20, 50  # seldom looks at everything: with 500 clients that holds the loop for 25 ms


UMASK = 0o077  # a wide one of the caller would leave folders that we make open to all; jobs get their own


class CannotStart(Exception):
    """The daemon cannot run here; the message says why and what to do."""


def run(options: Options) -> int:
    """Be the daemon until SIGTERM or SIGINT. Raises `CannotStart` and `ConfigError`."""
    settings = Settings(options.config, needed=options.config_needed)
    set_up_logging(settings.now.log.level)
    sys.setswitchinterval(SWITCH)
    take_short_turns()
    os.umask(UMASK)
    faulthandler.enable()  # the watchdog's SIGABRT leaves the stacks in the log
    stop = StopLimit()
    stop.begin()
    try:
        raise_descriptor_limit()
        handed_over = inherited_socket()
        refuse_network_file_system(options.state_dir)
        options.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        options.state_dir.chmod(0o700)
        with lock_state_dir(options.state_dir):
            asyncio.run(Daemon(options, settings, handed_over, stop.listen).live())
    except (StorageError, SocketTaken) as error:
        raise CannotStart(str(error)) from error
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        raise CannotStart(f"{place}{error.strerror or error}") from error
    finally:
        stop.heard()  # also of what Python waits for at its end
    return 0


def set_up_logging(level: str) -> None:
    """One line for each thing that a person should know, on stderr; the journal adds the time itself."""
    time_of_day = "" if os.environ.get("JOURNAL_STREAM") else "%(asctime)s "
    logging.basicConfig(stream=sys.stderr, format=f"{time_of_day}%(levelname)s %(name)s: %(message)s")
    logging.getLogger().setLevel(level.upper())
    logging.getLogger("asyncio").setLevel(logging.WARNING)


class Daemon:
    """Its life."""

    _opened: Opened
    _parts: Parts

    def __init__(
        self,
        options: Options,
        settings: Settings,
        handed_over: socket.socket | None = None,
        takes_signals: Callable[[asyncio.AbstractEventLoop], None] = lambda loop: None,
    ) -> None:
        self._options = options
        self._takes_signals = takes_signals  # called once the loop does
        self._handed_over = handed_over  # a listening socket
        self._settings = settings
        self._tasks = Tasks()
        self._stopping = asyncio.Event()

    async def live(self) -> None:
        """All of it."""
        async with contextlib.AsyncExitStack() as stack:
            self._opened = Opened(self._options.state_dir, self._settings, stack)
            front = Front(self._options, self._settings.now)
            self._parts = Parts(self._options, self._settings, self._opened, self._tasks, front.door)
            loop = asyncio.get_running_loop()
            for name in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(name, self._stopping.set)
            self._takes_signals(loop)
            loop.add_signal_handler(signal.SIGHUP, self._reload)
            stack.push_async_callback(self._parts.devices.close)
            await self._take_up()
            engine = self._tasks.spawn(self._parts.engine.run())
            stack.push_async_callback(self._close_engine, engine)
            stack.push_async_callback(self._tasks.cancel, engine)
            stack.push_async_callback(self._parts.supervisor.close)
            self._begin()
            await front.open(self._parts.service, self._handed_over, self._tasks, stack)
            self._announce()
            await self._until_stopped(engine)
            notify("STOPPING=1")
            log.info("stopping; running jobs go on")

    async def _take_up(self) -> None:
        """What the last daemon left."""
        started = m.DaemonStarted(
            time=time.time(), machine=machine(self._options, self._settings.least_free())
        )
        await self._parts.engine.start(started, await self._parts.devices.look_first())

    def _begin(self) -> None:
        self._tasks.keep(self._parts.devices.run)
        self._tasks.keep(self._parts.watch.run)
        self._tasks.keep(self._parts.records.run)
        self._tasks.keep(self._parts.hangs.run)
        self._tasks.keep(self._parts.accounts.run)
        self._tasks.keep(self._parts.notices.run)
        self._tasks.keep(self._parts.housekeeping.run)
        self._tasks.keep(self._parts.soundness.run)
        self._tasks.keep(partial(feed_watchdog, self._work_once))
        room = RoomWatch(
            self._options.state_dir, self._parts.engine, self._opened.reserve, self._settings.least_free
        )
        self._tasks.keep(room.run)
        if self._opened.metrics.set_aside is not None:
            self._tasks.spawn(self._parts.records.rebuild())
        gc.collect()
        gc.set_threshold(*COLLECTIONS)
        gc.freeze()  # what start-up made stays; later collections need not look at it

    def _announce(self) -> None:
        gpus = len(self._parts.engine.state.devices)
        kind = "simulated GPUs" if self._options.simulate_gpus is not None else "GPUs"
        problem = self._parts.devices.inventory.problem
        log.info(
            "trainforged %s serves %d %s at %s, state in %s%s",
            trainforge.__version__, gpus, kind, self._options.socket, self._options.state_dir,
            f" ({problem})" if problem and not gpus else "",
        )  # fmt: skip
        notify(f"READY=1\nSTATUS=serves {gpus} {kind}")

    async def _work_once(self) -> None:
        """Through the engine and back. A disk that refuses the commit does not make the loop hang."""
        with contextlib.suppress(StorageError):
            await self._parts.engine.ask(m.TimePassed(time=time.time()))

    async def _until_stopped(self, engine: asyncio.Task[None]) -> None:
        """Until somebody says stop, or a part fails that nothing works without."""
        stop = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([stop, engine], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if engine.done():
            engine.result()

    def _reload(self) -> None:
        """Read the settings again; a file with a mistake changes nothing."""
        reloading()
        self._read_settings()
        notify("READY=1")

    def _read_settings(self) -> None:
        try:
            self._settings.read()
        except ConfigError as error:
            log.error("the settings in force stay: %s", error)
            return
        settings = self._settings.now
        self._parts.devices.settings = settings.devices
        logging.getLogger().setLevel(settings.log.level.upper())
        patience = float(settings.scheduling.patience)
        self._parts.engine.tell(m.SettingsChanged(time=time.time(), patience=patience))
        log.info("settings were read again: %s", self._settings.place)

    async def _close_engine(self, engine: asyncio.Task[None]) -> None:
        self._parts.engine.close()
        await asyncio.gather(engine, return_exceptions=True)
