"""What a daemon is told: by its command line for its whole life, by its settings until the next."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import psutil

from trainforged import config
from trainforged.config import Config
from trainforged.core import messages as m
from trainforged.daemon.room import has_room

GIB = 2**30
CPU_FOR_EACH, MEMORY_FOR_EACH = 8, 32 * GIB  # of a simulated GPU


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says."""

    config: Path | None
    state_dir: Path
    socket: Path
    simulate_gpus: int | None = None
    simulate_cpu: int | None = None
    simulate_memory: int | None = None
    web: str | None = None  # HOST:PORT or off; None: as the settings say


class Settings:
    """The settings in force; `read` puts others in their place, or raises `ConfigError` and does not."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.now: Config = config.load(path)

    def read(self) -> None:
        self.now = config.load(self._path)

    def least_free(self) -> int:
        return int(self.now.limits.free)

    def project_limit(self) -> int:
        return int(self.now.limits.project)

    def output_limit(self) -> int:
        return int(self.now.limits.output)

    def metrics_room(self) -> int:
        return int(self.now.limits.metrics)

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
