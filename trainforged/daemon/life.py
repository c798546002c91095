"""One daemon from start to stop: parts are set up in order, and taken down in reverse.

Start: the state folder is locked, storage opened, GPUs looked at, former attempts taken up, and only
then the socket opened. Stop (SIGTERM): the socket closes, what was accepted is on disk, jobs go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import getpass
import logging
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Coroutine
from pathlib import Path

import msgspec
import psutil
from aiohttp import web

import trainforge
from trainforged import config
from trainforged.config import Config, ConfigError
from trainforged.core import messages as m
from trainforged.core.state import State
from trainforged.daemon.devices import DeviceWatch
from trainforged.daemon.engine import Engine
from trainforged.daemon.hangs import HangWatch
from trainforged.daemon.housekeeping import Housekeeping, job_folders
from trainforged.daemon.notify import feed_watchdog, notify, reloading
from trainforged.daemon.output import Output
from trainforged.daemon.preparation import Preparation
from trainforged.daemon.records import RecordWatch
from trainforged.daemon.reserve import Reserve
from trainforged.daemon.room import RoomWatch, has_room
from trainforged.daemon.service import DaemonService
from trainforged.daemon.submissions import Submissions
from trainforged.daemon.views import Views
from trainforged.devices.inventory import Inventory
from trainforged.devices.nvml import NvmlInventory
from trainforged.devices.simulated import SimulatedInventory
from trainforged.execution import durable, library, systemd
from trainforged.execution.environments import Environments
from trainforged.execution.files import Files
from trainforged.execution.supervisor import Supervisor
from trainforged.storage.errors import StorageError
from trainforged.storage.jobs import JobStore
from trainforged.storage.metrics import MetricStore
from trainforged.storage.records import RecordReader
from trainforged.storage.statedir import lock_state_dir, refuse_network_file_system
from trainforged.storage.tensorboard import EventFollower
from trainforged.web.app import make_app
from trainforged.web.limits import Limits
from trainforged.web.live import Live
from trainforged.web.serving import SocketTaken, inherited_socket, raise_descriptor_limit, serve_unix

log = logging.getLogger("trainforged")

GIB = 2**30
CPU_FOR_EACH, MEMORY_FOR_EACH = 8, 32 * GIB  # of a simulated GPU


class CannotStart(Exception):
    """The daemon cannot run here; the message says why and what to do."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says."""

    config: Path | None
    state_dir: Path
    socket: Path
    simulate_gpus: int | None = None
    simulate_cpu: int | None = None
    simulate_memory: int | None = None


def run(options: Options) -> int:
    """Be the daemon until SIGTERM or SIGINT. Raises `CannotStart` and `ConfigError`."""
    settings = config.load(options.config)
    set_up_logging(settings.log.level)
    faulthandler.enable()  # the watchdog's SIGABRT leaves the stacks in the log
    try:
        raise_descriptor_limit()
        handed_over = inherited_socket()
        refuse_network_file_system(options.state_dir)
        options.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        options.state_dir.chmod(0o700)
        with lock_state_dir(options.state_dir):
            asyncio.run(Daemon(options, settings, handed_over).live())
    except (StorageError, SocketTaken, OSError) as error:
        raise CannotStart(str(error)) from error
    return 0


def set_up_logging(level: str) -> None:
    """One line for each thing that a person should know, on stderr; the journal adds the time itself."""
    time_of_day = "" if os.environ.get("JOURNAL_STREAM") else "%(asctime)s "
    logging.basicConfig(stream=sys.stderr, format=f"{time_of_day}%(levelname)s %(name)s: %(message)s")
    logging.getLogger().setLevel(level.upper())
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def machine(options: Options, free: int) -> m.Machine:
    """What there is to give beside GPUs: of this machine, or made up. `free`: bytes that must be."""
    room, gpus = has_room(options.state_dir, free), options.simulate_gpus
    if gpus is None:
        memory = psutil.virtual_memory().total
        return m.Machine(cpu=len(os.sched_getaffinity(0)), memory=memory, room=room)
    return m.Machine(
        cpu=options.simulate_cpu or CPU_FOR_EACH * max(1, gpus),
        memory=options.simulate_memory or MEMORY_FOR_EACH * max(1, gpus),
        room=room,
    )


class Daemon:
    """The parts and how they are joined."""

    _engine: Engine
    _devices: DeviceWatch

    def __init__(self, options: Options, settings: Config, handed_over: socket.socket | None = None) -> None:
        self._options = options
        self._handed_over = handed_over  # a listening socket
        self._settings = settings
        self._state_dir = options.state_dir
        self._reserve = Reserve(options.state_dir)
        self._store = JobStore(self._state_dir / "trainforge.db")
        self._metrics = MetricStore(self._state_dir / "metrics.db")
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()

    async def live(self) -> None:
        """All of it."""
        async with contextlib.AsyncExitStack() as stack:
            state = self._open_storage(stack)
            self._join(state)
            loop = asyncio.get_running_loop()
            for name in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(name, self._stopping.set)
            loop.add_signal_handler(signal.SIGHUP, self._reload)
            stack.push_async_callback(self._devices.close)
            await self._take_up()
            engine = self._spawn(self._engine.run())
            stack.push_async_callback(self._close_engine, engine)
            stack.push_async_callback(self._cancel_tasks, engine)
            stack.push_async_callback(self._supervisor.close)
            self._begin()
            serving = await serve_unix(self._app(), self._options.socket, sock=self._handed_over)
            stack.push_async_callback(serving.close)
            self._spawn(serving.keep())
            durable.replace(f"{self._state_dir}/socket", os.fsencode(self._options.socket.absolute()))
            self._announce()
            await self._until_stopped(engine)
            notify("STOPPING=1")
            log.info("stopping; running jobs go on")

    # ---- setting up

    def _open_storage(self, stack: contextlib.AsyncExitStack) -> State:
        self._reserve.spend_on(self._store.open)
        stack.callback(self._store.close)
        self._reserve.spend_on(self._metrics.open)
        stack.callback(self._metrics.close)
        remembered = self._store.load()
        state = State()
        state.outcomes = remembered.outcomes
        state.next_id = self._above_strangers(remembered.next_id)
        state.patience = float(self._settings.scheduling.patience)
        if remembered.machine is not None:
            state.machine = remembered.machine
        state.restore(remembered.jobs, remembered.leases, remembered.devices)
        self._live = Live(remembered.last_event)
        self._given_out = remembered.next_id
        return state

    def _above_strangers(self, next_id: int) -> int:
        """The number for the next job. Folders of jobs that the database does not know are left alone: an
        older one was put back, or it lost what was written last."""
        strangers = [job for job in job_folders(self._state_dir / "jobs") if job >= next_id]
        if not strangers:
            return next_id
        named = ", ".join(map(str, strangers[:10])) + (", …" if len(strangers) > 10 else "")
        log.error(
            "%s: the database knows nothing of jobs %s; their folders are left alone, and may be running. "
            "New jobs are numbered from %d",
            self._state_dir / "jobs", named, strangers[-1] + 1,
        )  # fmt: skip
        return strangers[-1] + 1

    def _join(self, state: State) -> None:
        """Make the parts and tell each what it needs of the others."""
        files = Files(self._state_dir / "files")
        inventory = self._inventory()
        reader = RecordReader(self._metrics)
        self._engine = Engine(
            state,
            self._store,
            perform=self._perform,
            publish=self._live.publish,
            relieve=self._reserve.give_up_some,
        )
        environments = Environments(self._state_dir / "environments")
        self._preparation = Preparation(
            store=self._store,
            files=files,
            environments=environments,
            library=library.ensure(self._state_dir),
            jobs_dir=self._state_dir / "jobs",
            simulated=inventory.simulated,
            output_limit=lambda: int(self._settings.limits.output),
        )
        self._supervisor = Supervisor(
            self._state_dir,
            self._heard,
            self._preparation.prepare,
            self._clear,
            manager=systemd.manager,
        )
        self._records = RecordWatch(
            reader,
            self._engine,
            self._live,
            self._attempt_dir,
            self._supervisor.usage,
            self._state_dir / "jobs",
            self._sign,
            EventFollower(reader, self._folders_of, avoid=[self._state_dir]),
        )
        self._hangs = HangWatch(
            self._engine,
            self._attempt_dir,
            phase=lambda job: progress.phase if (progress := reader.latest(job)) is not None else None,
            usage=self._supervisor.usage,
        )
        self._devices = DeviceWatch(
            inventory, self._engine, self._live, self._settings.devices, self._supervisor.processes
        )
        self._housekeeping = Housekeeping(
            engine=self._engine,
            store=self._store,
            metrics=self._metrics,
            reader=reader,
            files=files,
            environments=environments,
            state_dir=self._state_dir,
            reserve=self._reserve,
            next_id=self._given_out,
            retention=lambda: self._settings.retention,
        )
        user = getpass.getuser()
        views = Views(
            state,
            self._state_dir / "jobs",
            progress=lambda job: reader.latest(job, time.time()),
            usage=self._supervisor.usage,
        )
        self._service = DaemonService(
            engine=self._engine,
            store=self._store,
            metrics=self._metrics,
            progresses=reader.progresses,
            files=files,
            live=self._live,
            submissions=Submissions(
                self._engine,
                self._store,
                files,
                user,
                self._state_dir / "jobs",
                project_limit=self._project_limit,
            ),
            views=views,
            devices=self._devices,
            housekeeping=self._housekeeping,
            output=Output(state, self._attempt_dir),
            user=user,
            state_dir=self._state_dir,
            largest_file=lambda: int(self._settings.limits.file),
            project_limit=self._project_limit,
        )

    def _sign(self, job: int, attempt: int, signs: int) -> None:
        self._hangs.sign(job, attempt, signs)

    async def _clear(self, gpus: tuple[str, ...]) -> dict[str, str]:
        return await self._devices.clear(gpus)

    def _least_free(self) -> int:
        return int(self._settings.limits.free)

    def _project_limit(self) -> int:
        return int(self._settings.limits.project)

    def _inventory(self) -> Inventory:
        gpus = self._options.simulate_gpus
        if gpus is not None:
            return SimulatedInventory(gpus, str(self._state_dir))
        return NvmlInventory()

    def _job_dir(self, job: int) -> Path:
        return self._state_dir / "jobs" / str(job)

    def _folders_of(self, job: int) -> list[Path]:
        """Where the job works, and writes. Reads the disk."""
        submission, home = self._store.submission(job), self._job_dir(job).resolve()
        in_place = submission.workdir if submission is not None else None
        return [Path(in_place).resolve() if in_place else home / "project", home / "checkpoints"]

    def _attempt_dir(self, job: int, attempt: int) -> Path:
        return self._job_dir(job) / "attempts" / str(attempt)

    # ---- effects and what comes of them

    def _perform(self, effect: m.Effect) -> None:
        match effect:
            case m.StartAttempt():
                self._supervisor.start(effect)
            case m.AdoptAttempt():
                self._supervisor.adopt(effect)
            case m.StopAttempt():
                self._supervisor.stop(effect)
            case m.ReleaseLease():
                self._supervisor.release(effect)
            case m.RemoveFiles(job=job):
                self._housekeeping.delete_files(job)

    def _heard(self, event: m.Event) -> None:
        """What the supervisor tells. An attempt's last records are read before its end is judged."""
        match event:
            case m.AttemptStarted(job=job, attempt=attempt):
                resumed = self._preparation.take_resumed_from(job, attempt)
                self._engine.tell(msgspec.structs.replace(event, resumed_from=resumed))
            case m.AttemptEnded():
                self._spawn(self._conclude(event))
            case _:
                self._engine.tell(event)

    async def _conclude(self, event: m.AttemptEnded) -> None:
        position = await self._records.finish(event.job, event.attempt)
        self._engine.tell(msgspec.structs.replace(event, position=position, jitter=random.random()))

    # ---- living

    def _app(self) -> web.Application:
        return make_app(self._service, Limits(file=int(self._settings.limits.file)))

    async def _take_up(self) -> None:
        """What the last daemon left."""
        started = m.DaemonStarted(time=time.time(), machine=machine(self._options, self._least_free()))
        await self._engine.start(started, await self._devices.look_first())

    def _begin(self) -> None:
        self._spawn(self._devices.run())
        self._spawn(self._records.run())
        self._spawn(self._hangs.run())
        self._spawn(self._housekeeping.run())
        self._spawn(feed_watchdog(self._work_once))
        self._spawn(RoomWatch(self._state_dir, self._engine, self._reserve, self._least_free).run())
        if self._metrics.set_aside is not None:
            self._spawn(self._records.rebuild())
        gc.collect()
        gc.freeze()  # what start-up made stays; later collections need not look at it

    def _announce(self) -> None:
        gpus = len(self._engine.state.devices)
        kind = "simulated GPUs" if self._options.simulate_gpus is not None else "GPUs"
        problem = self._devices.inventory.problem
        log.info(
            "trainforged %s serves %d %s at %s, state in %s%s",
            trainforge.__version__, gpus, kind, self._options.socket, self._state_dir,
            f" ({problem})" if problem and not gpus else "",
        )  # fmt: skip
        notify(f"READY=1\nSTATUS=serves {gpus} {kind}")

    async def _work_once(self) -> None:
        """Through the engine and back. A disk that refuses the commit does not make the loop hang."""
        with contextlib.suppress(StorageError):
            await self._engine.ask(m.TimePassed(time=time.time()))

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
            self._settings = config.load(self._options.config)
        except ConfigError as error:
            log.error("the settings in force stay: %s", error)
            return
        self._devices.settings = self._settings.devices
        logging.getLogger().setLevel(self._settings.log.level.upper())
        patience = float(self._settings.scheduling.patience)
        self._engine.tell(m.SettingsChanged(time=time.time(), patience=patience))
        log.info("settings were read again")

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.append(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.remove(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a part of the daemon failed", exc_info=task.exception())

    # ---- taking down

    async def _cancel_tasks(self, engine: asyncio.Task[None]) -> None:
        """All but the engine, which still takes in what the others leave behind."""
        others = [task for task in self._tasks if task is not engine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _close_engine(self, engine: asyncio.Task[None]) -> None:
        self._engine.close()
        await asyncio.gather(engine, return_exceptions=True)
