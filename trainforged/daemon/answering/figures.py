"""Figures of the daemon itself and of what has happened, for Prometheus: counted since the daemon started."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence

import psutil

from trainforge.api import EventView
from trainforged.core.state import State
from trainforged.web.service import Figures

COUNTED = (  # there from the start, so that a rate of them is one from the first on
    "attempt_started", "checkpoint_saved", "gpu_set_aside", "hang_found", "job_cancelled", "job_failed",
    "job_retried", "job_submitted", "job_succeeded", "resumed", "waste_noticed",
)  # fmt: skip


class FigureBook:
    """`waste` says of a job whether it wastes GPUs, `notices` how many letters wait. On the event loop."""

    def __init__(
        self,
        state: State,
        waste: Callable[[int], object],
        notices: Callable[[], int],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._waste = waste
        self._notices = notices
        self._clock = clock
        self._events: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
        self._starts = 0
        self._waited = 0.0
        self._process = psutil.Process()

    def hear(self, events: Sequence[EventView]) -> None:
        """What has happened. The first start of a job ends its wait."""
        for event in events:
            self._events[event.type] += 1
            if (waited := event.data.get("waited")) is not None:
                self._starts += 1
                self._waited += waited

    def figures(self) -> Figures:
        state, now = self._state, self._clock()
        ready = len(state.ready)
        longest = min((state.jobs[job].submitted_at for _, job in state.ready), default=now)
        with self._process.oneshot():
            times, memory = self._process.cpu_times(), self._process.memory_info()
            started = self._process.create_time()
        return Figures(
            waiting={
                "resources": ready,
                "begin_time": len(state.sleeping),
                "jobs": max(0, len(state.queue) - ready - len(state.sleeping)),
            },
            longest_wait=max(0.0, now - longest),
            starts=self._starts,
            waited=self._waited,
            events=dict(self._events),
            wasting=sum(self._waste(job) is not None for job in state.leases),
            notices=self._notices(),
            cpu=times.user + times.system,
            memory=memory.rss,
            descriptors=len(os.listdir("/proc/self/fd")),
            process_started=started,
        )
