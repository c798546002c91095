"""The daemon's parts, each told what it needs of the others, and what goes between them."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec

from trainforge.api import EventView, GroupsView
from trainforge.client.home import user_name
from trainforged.core import messages as m
from trainforged.daemon.accounting.watch import AccountWatch
from trainforged.daemon.answering.figures import FigureBook
from trainforged.daemon.answering.lookups import Lookups
from trainforged.daemon.answering.memory import Memory
from trainforged.daemon.answering.output import Output
from trainforged.daemon.answering.service import DaemonService
from trainforged.daemon.answering.submissions import Submissions
from trainforged.daemon.answering.views import Views
from trainforged.daemon.attempts.concluding import conclude
from trainforged.daemon.attempts.preparation import Preparation
from trainforged.daemon.disks.housekeeping import Housekeeping
from trainforged.daemon.disks.room import look_at_disks
from trainforged.daemon.disks.soundness import SoundnessWatch
from trainforged.daemon.engine import Engine
from trainforged.daemon.notices.outbox import Outbox
from trainforged.daemon.notices.watch import NoticeWatch
from trainforged.daemon.opened import Opened
from trainforged.daemon.options import Options, Settings
from trainforged.daemon.tasks import Tasks
from trainforged.daemon.watching.devices import DeviceWatch
from trainforged.daemon.watching.hangs import HangWatch
from trainforged.daemon.watching.records import RecordWatch
from trainforged.daemon.watching.use import HistoryWatch
from trainforged.devices.inventory import Inventory
from trainforged.devices.nvml import NvmlInventory
from trainforged.devices.simulated import SimulatedInventory
from trainforged.execution.environments.isolated import Environments
from trainforged.execution.files.store import Files
from trainforged.execution.starting import groups, library, systemd
from trainforged.execution.supervisor import Supervisor
from trainforged.storage.errors import StorageError
from trainforged.storage.following.records import RecordReader
from trainforged.storage.following.tensorboard import EventFollower
from trainforged.web.live import Live
from trainforged.web.port.door import Door

log = logging.getLogger(__name__)


class Parts:
    """Made, and not yet working: `life` starts them and takes them down."""

    def __init__(
        self, options: Options, settings: Settings, opened: Opened, tasks: Tasks, door: Door
    ) -> None:
        state_dir = self._state_dir = options.state_dir
        self._tasks = tasks
        self._settings = settings
        self._store = opened.store
        self.live = Live(opened.last_event)
        files = Files(state_dir / "files")
        inventory = _inventory(options)
        reader = RecordReader(opened.metrics, settings.records_room)
        self.engine = Engine(
            opened.state,
            opened.store,
            perform=self._perform,
            publish=self._publish,
            relieve=opened.reserve.give_up_some,
        )
        environments = Environments(state_dir / "environments")
        self.preparation = Preparation(
            store=opened.store,
            files=files,
            environments=environments,
            library=library.ensure(state_dir),
            jobs_dir=state_dir / "jobs",
            simulated=inventory.simulated,
            output_limit=settings.output_limit,
            processes=settings.processes,
            tell=self.engine.tell,
        )
        self.supervisor = Supervisor(
            state_dir,
            self._heard,
            self.preparation.prepare,
            self._clear,
            manager=systemd.manager,
            groups=(made := groups.find()),
        )
        self.records = RecordWatch(
            reader,
            self.engine,
            self.live,
            self._attempt_dir,
            self.supervisor.usage,
            state_dir / "jobs",
            self._sign,
            EventFollower(reader, self._folders_of, avoid=[state_dir]),
        )
        self.hangs = HangWatch(
            self.engine,
            self._attempt_dir,
            phase=partial(_phase, reader),
            usage=self.supervisor.usage,
            gpus=lambda job: self.devices.use(job),
        )
        self.devices = DeviceWatch(
            inventory, self.engine, self.live, settings.now.devices, self.supervisor.processes
        )
        self.accounts = AccountWatch(
            opened.accounts,
            self.engine,
            history=self.devices.feed.history.of,
            usage=self.supervisor.usage,
            stored=opened.store.job,
            attempts=opened.store.attempts,
            settings=lambda: settings.now.waste,
        )
        self.watch = HistoryWatch(
            self.devices.feed, opened.state, opened.metrics.history, self.supervisor.usage
        )
        self.figures = FigureBook(
            opened.state, waste=self.accounts.waste, notices=lambda: self.notices.waiting
        )
        self.housekeeping = Housekeeping(
            engine=self.engine,
            store=opened.store,
            metrics=opened.metrics,
            reader=reader,
            files=files,
            environments=environments,
            state_dir=state_dir,
            reserve=opened.reserve,
            next_id=opened.given_out,
            retention=lambda: settings.now.retention,
        )
        self.soundness = SoundnessWatch(
            self.engine,
            opened.store,
            {
                "metrics.db": (opened.metrics.look, self.records.start_over),
                "accounts.db": (opened.accounts.look, self.accounts.start_over),
            },
        )
        user = user_name()
        views = Views(
            opened.state,
            state_dir / "jobs",
            progress=lambda job: reader.latest(job, time.time()),
            usage=self.supervisor.usage,
            waste=self.accounts.waste,
        )
        lookups = Lookups(opened.state, opened.store, reader, views, user)
        memory = Memory(
            lookups=lookups,
            engine=self.engine,
            live=self.live,
            devices=self.devices,
            user=user,
            state_dir=state_dir,
            project_limit=settings.project_limit,
            door=door,
            groups=None if made is None else GroupsView(folder=str(made.folder), limits=made.limits),
            storage_problem=lambda: self.soundness.problem,
        )
        self.service = DaemonService(
            engine=self.engine,
            store=opened.store,
            metrics=opened.metrics,
            files=files,
            live=self.live,
            submissions=Submissions(
                self.engine,
                opened.store,
                files,
                user,
                state_dir / "jobs",
                project_limit=settings.project_limit,
            ),
            views=views,
            devices=self.devices,
            housekeeping=self.housekeeping,
            accounts=self.accounts,
            figures=self.figures.figures,
            output=Output(opened.state, self._attempt_dir),
            memory=memory,
            lookups=lookups,
            user=user,
            state_dir=state_dir,
            largest_file=settings.largest_file,
            watch=self.watch,
        )

        self.notices = NoticeWatch(
            Outbox(state_dir / "outbox"),
            opened.store,
            self.engine,
            user=user,
            view=self.service.job,
            incident=self.service.insight.incident,
            settings=lambda: settings.now.notify,
        )

    def _publish(self, events: Sequence[EventView]) -> None:
        """What has happened is on the disk; whoever listens must not stop what comes after."""
        self.live.publish(events)
        for hear in (self.figures.hear, self.accounts.hear, self.notices.hear):
            try:
                hear(events)
            except Exception:
                log.exception("what has happened was not heard")

    def _sign(self, job: int, attempt: int, signs: int) -> None:
        self.hangs.sign(job, attempt, signs)

    async def _clear(self, gpus: tuple[str, ...]) -> dict[str, str]:
        return await self.devices.clear(gpus)

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
                self.supervisor.start(effect)
            case m.AdoptAttempt():
                self.supervisor.adopt(effect)
            case m.StopAttempt():
                self.supervisor.stop(effect)
            case m.ReleaseLease():
                self.supervisor.release(effect)
            case m.RemoveFiles(job=job):
                self.housekeeping.delete_files(job)

    def _heard(self, event: m.Event) -> None:
        """What the supervisor tells. An attempt's last records are read before its end is judged."""
        match event:
            case m.AttemptStarted(job=job, attempt=attempt):
                resumed = self.preparation.take_resumed_from(job, attempt)
                self.engine.tell(msgspec.structs.replace(event, resumed_from=resumed))
            case m.AttemptEnded():
                self._tasks.spawn(self._conclude(event))
            case _:
                self.engine.tell(event)

    async def _conclude(self, event: m.AttemptEnded) -> None:
        self.engine.tell(await conclude(event, self.records.finish, self._with_room))

    def _with_room(self, job: int, end: m.AttemptEnd) -> m.AttemptEnd:
        """With what is free on the disks to which it writes. Reads them."""
        try:
            places = self._folders_of(job)
        except (StorageError, OSError):
            places = []
        room, full = look_at_disks(end, self._state_dir, places, self._settings.least_free())
        return msgspec.structs.replace(end, room=room, full=full)


def _phase(reader: RecordReader, job: int, attempt: int) -> str | None:
    """What cannot be found out is taken for a phase: nobody is stopped for it."""
    try:
        return reader.phase(job, attempt)
    except StorageError as error:
        log.error("the phase of job %d is not known: %s", job, error)
        return "not known"


def _inventory(options: Options) -> Inventory:
    if options.simulate_gpus is not None:
        return SimulatedInventory(options.simulate_gpus, str(options.state_dir))
    return NvmlInventory()
