"""What the daemon can answer without waiting for anything: no thread is asked, and no disk."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

import trainforge
from trainforge.api import Counts, EventList, EventView, GpuList, GroupsView, JobList, JobView, StatusAnswer
from trainforge.states import JobState
from trainforged.core import scheduler
from trainforged.daemon.answering.lookups import Lookups
from trainforged.daemon.answering.views import moment
from trainforged.daemon.engine import Engine
from trainforged.daemon.watching.devices import DeviceWatch
from trainforged.web.live import Live
from trainforged.web.port.door import Door
from trainforged.web.service import JobFilter

LOOK_EVERY = 1.0  # seconds for which what the system was asked counts


class Surroundings(msgspec.Struct, frozen=True):
    """What a status tells of the machine."""

    load: tuple[float, float, float]
    disk_free: int


class Memory:
    """Implements `web.service.Memory`, whose docstrings hold."""

    def __init__(
        self,
        *,
        lookups: Lookups,
        engine: Engine,
        live: Live,
        devices: DeviceWatch,
        user: str,
        state_dir: Path,
        project_limit: Callable[[], int],
        door: Door,
        groups: GroupsView | None,
        storage_problem: Callable[[], str | None],
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lookups = lookups
        self._engine = engine
        self._live = live
        self._devices = devices
        self._user = user
        self._state_dir = state_dir
        self._project_limit = project_limit
        self._door = door
        self._groups = groups
        self._storage_problem = storage_problem
        self._clock = clock
        self._steady = steady
        self._started = clock()
        self._started_at = moment(self._started)
        self._seen: tuple[float, Surroundings] | None = None  # when, and what

    def status(self) -> StatusAnswer:
        state = self._engine.state
        devices = list(state.devices.values())
        free = scheduler.free(devices, state.leases.values(), state.machine)
        around = self._surroundings()
        return StatusAnswer(
            version=trainforge.__version__,
            pid=os.getpid(),
            started_at=self._started_at,
            uptime=self._clock() - self._started,
            user=self._user,
            state_dir=str(self._state_dir),
            simulated=self._devices.inventory.simulated,
            jobs=Counts(**{str(name): state.counts[name] for name in JobState}),
            gpus_total=len(devices),
            gpus_free=len(free.gpus),
            cpu_total=state.machine.cpu,
            cpu_free=max(0, free.cpu),  # less than none: jobs run on that were given a larger machine's
            memory_total=state.machine.memory,
            memory_free=max(0, free.memory),
            load=around.load,
            disk_free=around.disk_free,
            last_event=self._live.last_event,
            project_limit=self._project_limit(),
            web=self._door.address,
            web_problem=self._door.problem,
            storage_problem=self._storage_problem(),
            groups=self._groups,
        )

    def job(self, job: int) -> JobView | None:
        return self._lookups.known_job(job)

    def jobs(self, which: JobFilter) -> JobList | None:
        return self._lookups.known_jobs(which)

    def gpus(self) -> GpuList:
        return self._devices.gpus()

    def events(self, after: int, limit: int) -> EventList | None:
        found = self._live.recent(after, limit)
        return None if found is None else event_list(found, limit)

    def _surroundings(self) -> Surroundings:
        """As of a second ago at most: to ask the system gives the interpreter away, which under a crowd takes
        longer than all the rest of a status."""
        now = self._steady()
        if self._seen is None or now - self._seen[0] >= LOOK_EVERY:
            around = Surroundings(os.getloadavg(), shutil.disk_usage(self._state_dir).free)
            self._seen = now, around
        return self._seen[1]


def event_list(found: Sequence[EventView], limit: int) -> EventList:
    """As the API gives them: with where to go on, where there may be more."""
    return EventList(events=tuple(found), next=found[-1].id if len(found) == limit else None)
