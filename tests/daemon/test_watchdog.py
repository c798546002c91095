"""The watchdog is fed from the loop that all orders go through: not once that hangs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.real import DEADLINE, RealDaemon, wait_until
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
def daemon(folder: Path, manager: ServiceManager) -> Iterator[RealDaemon]:
    """Its state folder has a disk to itself, which can be frozen."""
    daemon = RealDaemon(folder, env=manager.env)
    daemon.state_dir.mkdir()
    if shutil.which("mkfs.ext4") is None or shutil.which("fsfreeze") is None:
        pytest.skip("needs mkfs.ext4 and fsfreeze")
    image = folder / "disk.img"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    mount = ["mount", "-o", "loop", image, daemon.state_dir]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no loop device can be mounted here")
    try:
        yield daemon.start()
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", daemon.state_dir], capture_output=True)
        daemon.close()
        subprocess.run(["umount", "--lazy", daemon.state_dir], check=True)


def test_a_daemon_whose_orders_hang_does_not_feed_it_though_it_answers(
    daemon: RealDaemon, manager: ServiceManager
) -> None:
    held = daemon.command("true", hold=True).id
    wait_until(lambda: manager.silent_for() < LIMIT, "it to be fed")
    if subprocess.run(["fsfreeze", "--freeze", daemon.state_dir], capture_output=True).returncode != 0:
        pytest.skip("no file system can be frozen here")
    order = subprocess.Popen(release(daemon, held), stdout=subprocess.PIPE, text=True)
    wait_until(lambda: manager.silent_for() > 3 * LIMIT, "it to be fed no more")
    with daemon.client(timeout=DEADLINE) as client:
        assert client.status().pid == daemon.pid, "not all of it hangs"
    assert manager.silent_for() > 3 * LIMIT
    assert order.poll() is None, "nothing is acknowledged that is not on the disk"
    subprocess.run(["fsfreeze", "--unfreeze", daemon.state_dir], check=True)
    assert order.wait(DEADLINE) == 0
    wait_until(lambda: manager.silent_for() < LIMIT, "it to be fed again")
    assert daemon.wait_for(held).state is JobState.SUCCEEDED
