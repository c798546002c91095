"""What faults are done to, and the memory of what they may have touched."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.daemon.real import RealDaemon
from tests.shell.nvml_standin import Standin, Values
from tests.torture.box import BoxedDaemon
from trainforged.execution import processes

Kinds = dict[str, Callable[[], bool]]
"""A fault by its name; False where it found nothing to be done to."""


class Scene:
    """`disk`: the state folder's, if it has one to itself. `driver`: its GPUs are read by a process, and are
    `gpus`. `meddled`: to each job, what was done to it."""

    def __init__(
        self,
        daemon: RealDaemon,
        chance: random.Random,
        disk: Path | None,
        driver: Standin | None,
        gpus: Sequence[Values] = (),
    ) -> None:
        self.daemon = daemon
        self.chance = chance
        self.disk = disk
        self.driver = driver
        self.gpus = gpus
        self.meddled: dict[int, set[str]] = {}

    def mark(self, job: int, what: str) -> None:
        self.meddled.setdefault(job, set()).add(what)

    def mark_unended(self) -> None:
        """All that run: nobody may ever learn how they would have ended."""
        for attempt in self.unended():
            self.mark(int(attempt.parts[-3]), "shim")

    def shims(self) -> dict[int, int]:
        """pid of each shim that lives → its job."""
        found = {}
        for attempt in self.unended():
            with contextlib.suppress(OSError, ValueError):
                shim = json.loads((attempt / "shim.json").read_text())
                pid = self._here(shim["pid"])
                stat = processes.read_stat(pid) if pid is not None else None
                if stat is not None and stat.start_time == shim["start_time"] and not stat.over:
                    found[stat.pid] = int(attempt.parts[-3])
        return found

    def unended(self) -> Iterator[Path]:
        """Folders of attempts that were begun, and of whose end there is no word."""
        for path in self.daemon.state_dir.glob("jobs/*/attempts/*/shim.json"):
            if not (path.parent / "exit.json").exists():
                yield path.parent

    def _here(self, pid: int) -> int | None:
        return self.daemon.outside(pid) if isinstance(self.daemon, BoxedDaemon) else pid


def send(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
