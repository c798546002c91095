"""What the fake service answers at once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from trainforge.api import Counts, EventList, GpuList, JobList, JobView, StatusAnswer
from trainforge.states import JobState
from trainforged.web.service import JobFilter

if TYPE_CHECKING:
    from tests.shell.fake_service import FakeService


class FakeMemory:
    """`asked` counts the questions that came, `away` makes it answer none but status."""

    def __init__(self, service: FakeService) -> None:
        self._service = service
        self.asked = 0
        self.away = False

    def status(self) -> StatusAnswer:
        self.asked += 1
        service = self._service
        if service.broken is not None:
            raise service.broken
        states = [job.state for job in service.all.values()]
        return StatusAnswer(
            version="0", pid=os.getpid(), started_at=service.now, uptime=5.0, user="alice",
            state_dir="/state", simulated=True,
            jobs=Counts(**{state: states.count(state) for state in JobState}),
            gpus_total=1, gpus_free=1, cpu_total=8, cpu_free=8, memory_total=100, memory_free=100,
            load=(0.5, 0.5, 0.5), disk_free=1000, last_event=service.live.last_event,
        )  # fmt: skip

    def gpus(self) -> GpuList | None:
        self.asked += 1
        return None if self.away else GpuList(gpus=(self._service.gpu(),))

    def job(self, job: int) -> JobView | None:
        self.asked += 1
        return None if self.away else self._service.whole(job)

    def jobs(self, which: JobFilter) -> JobList | None:
        return None

    def events(self, after: int, limit: int) -> EventList | None:
        self.asked += 1
        found = None if self.away else self._service.live.recent(after, limit)
        if found is None:
            return None
        return EventList(events=tuple(found), next=found[-1].id if len(found) == limit else None)
