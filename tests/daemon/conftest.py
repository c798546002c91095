from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon.hooks import Hooks
from tests.daemon.machines import Machine
from tests.daemon.real import RealDaemon, wait_until
from tests.daemon.silent_disk import SilentDisk


@pytest.fixture
def start_daemon() -> Iterator[Callable[..., RealDaemon]]:
    """Starts daemons, each in a folder of its own, and ends them with all that they started."""
    daemons: list[RealDaemon] = []

    def start(gpus: int = 2, *options: str) -> RealDaemon:
        folder = Path(tempfile.mkdtemp(prefix="tf-"))  # short: a socket's path has 107 bytes
        daemons.append(RealDaemon(folder, gpus, *options))
        return daemons[-1].start()

    yield start
    for daemon in daemons:
        daemon.close()
        shutil.rmtree(daemon.folder, ignore_errors=True)


@pytest.fixture
def daemon(start_daemon: Callable[..., RealDaemon]) -> RealDaemon:
    """A daemon with two simulated GPUs."""
    return start_daemon()


@pytest.fixture
def folder() -> Iterator[Path]:
    """For a daemon of the test's own; short, since a socket's path has 107 bytes."""
    made = Path(tempfile.mkdtemp(prefix="tf-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def disk(daemon: RealDaemon) -> Iterator[SilentDisk]:
    """One that `daemon` may use, and that falls silent when it is told to."""
    disk = SilentDisk(daemon.folder / "served")
    try:
        yield disk
    finally:
        disk.close()
        daemon.close()


@pytest.fixture
def machine(folder: Path) -> Iterator[Machine]:
    made = Machine(folder)
    try:
        made.daemon.start()
        wait_until(lambda: made.gpu(0).state == "free" and made.gpu(1).state == "free", "both GPUs")
        yield made
    finally:
        made.daemon.close()


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    hooks = Hooks()
    yield hooks
    hooks.close()
