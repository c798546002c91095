"""The watchdog is fed from the loop that all orders go through: not once that hangs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.real import DEADLINE, RealDaemon, wait_until
from tests.shell.execution.disks import FreezableDisk, freezable_disk
from trainforge.states import JobState

LIMIT = 0.4  # seconds, after which a service manager takes a silent daemon for hung


class ServiceManager:
    """What it hears."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(os.fspath(folder / "notify"))
        self.env = os.environ | {
            "NOTIFY_SOCKET": str(folder / "notify"),
            "WATCHDOG_USEC": f"{LIMIT * 1e6:.0f}",
        }
        self.env.pop("WATCHDOG_PID", None)
        self._fed = 0.0

    def silent_for(self) -> float:
        """Seconds since the watchdog was fed."""
        while True:
            try:
                heard = self._socket.recv(4096)
            except BlockingIOError:
                return time.monotonic() - self._fed
            if heard == b"WATCHDOG=1":
                self._fed = time.monotonic()


def release(daemon: RealDaemon, job: int) -> list[str]:
    """A program that waits for the answer."""
    source = "import sys; from pathlib import Path; from trainforge.client.client import Client\n"
    source += f"Client(Path({str(daemon.socket)!r}), timeout={DEADLINE}).release({job})"
    return [sys.executable, "-c", source]


@pytest.fixture
def manager(folder: Path) -> ServiceManager:
    return ServiceManager(folder)


@pytest.fixture
def disk(folder: Path) -> Iterator[FreezableDisk]:
    with freezable_disk(folder / "state") as disk:
        yield disk


@pytest.fixture
def daemon(folder: Path, manager: ServiceManager, disk: FreezableDisk) -> Iterator[RealDaemon]:
    """Its state folder has the disk to itself."""
    daemon = RealDaemon(folder, env=manager.env)
    assert daemon.state_dir == disk.place
    yield daemon.start()
    disk.thaw()
    daemon.close()


def test_a_daemon_whose_orders_hang_does_not_feed_it_though_it_answers(
    daemon: RealDaemon, manager: ServiceManager, disk: FreezableDisk
) -> None:
    held = daemon.command("true", hold=True).id
    wait_until(lambda: manager.silent_for() < LIMIT, "it to be fed")
    disk.freeze()
    order = subprocess.Popen(release(daemon, held), stdout=subprocess.PIPE, text=True)
    wait_until(lambda: manager.silent_for() > 3 * LIMIT, "it to be fed no more")
    with daemon.client(timeout=DEADLINE) as client:
        assert client.status().pid == daemon.pid, "not all of it hangs"
    assert manager.silent_for() > 3 * LIMIT
    assert order.poll() is None, "nothing is acknowledged that is not on the disk"
    disk.thaw()
    assert order.wait(DEADLINE) == 0
    wait_until(lambda: manager.silent_for() < LIMIT, "it to be fed again")
    assert daemon.wait_for(held).state is JobState.SUCCEEDED
