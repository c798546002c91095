"""What a daemon is told: by its command line for its whole life, by its settings until the next."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import psutil

from trainforged import config
from trainforged.config import Config
from trainforged.core import messages as m
from trainforged.daemon.disks.room import has_room

GIB = 2**30
CPU_FOR_EACH, MEMORY_FOR_EACH = 8, 32 * GIB  # of a simulated GPU


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says."""

    config: Path | None
    config_needed: bool = True  # named by the user; the usual file need not be there
    state_dir: Path
    socket: Path
    simulate_gpus: int | None = None
    simulate_cpu: int | None = None
    simulate_memory: int | None = None
    web: str | None = None  # HOST:PORT or off; None: as the settings say

    def words(self) -> list[str]:
        """What gives another daemon this machine, real or made up, but for state folder and socket."""
        given = {
            "--config": self.config.absolute() if self.config is not None and self.config_needed else None,
            "--simulate-gpus": self.simulate_gpus,
            "--simulate-cpu": self.simulate_cpu,
            "--simulate-memory": self.simulate_memory,
            "--web": self.web,
        }
        return [text for name, value in given.items() if value is not None for text in (name, str(value))]


class Settings:
    """The settings in force; `read` puts others in their place, or raises `ConfigError` and does not."""

    def __init__(self, path: Path | None, *, needed: bool = True) -> None:
        self._path = path
        self._needed = needed
        self.now: Config = config.load(path, needed=needed)

    def read(self) -> None:
        self.now = config.load(self._path, needed=self._needed)

    @property
    def place(self) -> str:
        """Where they are from, in words."""
        if self._path is None or not self._path.exists():
            return f"the defaults, for there is no {self._path or 'file of settings'}"
        return str(self._path)

    def least_free(self) -> int:
        return int(self.now.limits.free)

    def project_limit(self) -> int:
        return int(self.now.limits.project)

    def output_limit(self) -> int:
        return int(self.now.limits.output)

    def processes(self) -> int:
        return self.now.limits.processes

    def metrics_room(self) -> int:
        return int(self.now.limits.metrics)

    def records_room(self) -> int:
        return int(self.now.limits.records)

    def largest_file(self) -> int:
        return int(self.now.limits.file)


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
