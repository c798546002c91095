"""What the daemon says to a service manager, and what it takes from it. No systemd is needed for it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainforged.daemon.notify import feed_watchdog, notify


class Manager:
    """The receiving end."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(os.fspath(path))
        self.heard: list[str] = []

    def listen(self) -> list[str]:
        try:
            while True:
                self.heard.append(self._socket.recv(4096).decode())
        except BlockingIOError:
            return self.heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    yield made
    made.close()


async def test_the_watchdog_is_fed_after_work_is_done_and_not_while_it_hangs(manager: Manager) -> None:
    done: list[int] = []
    hangs = asyncio.Event()

    async def work() -> None:
        if len(done) == 3:
            hangs.set()
            await asyncio.Event().wait()
        assert len(manager.listen()) == len(done)
        done.append(1)

    feeding = asyncio.create_task(feed_watchdog(work))
    await asyncio.wait_for(hangs.wait(), 20)
    assert manager.listen() == ["WATCHDOG=1"] * 3
    feeding.cancel()


async def test_nobody_is_fed_where_nobody_watches(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_PID", "1")
    await feed_watchdog(lambda: pytest.fail("there is nothing to prove"))
    assert manager.listen() == []


def test_a_manager_that_is_away_harms_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    notify("READY=1")


TAKES = """
    import os, sys
    os.environ["LISTEN_PID"] = str(os.getpid())
    from trainforged.web.serving import SocketTaken, inherited_socket
    try:
        sock = inherited_socket()
        print(sock and sock.getsockname(), "LISTEN_FDS" in os.environ, sock and sock.get_inheritable())
    except SocketTaken as error:
        print(error)
"""


def taken(sock: socket.socket, count: str) -> str:
    """What a process says to which the socket was handed over as its third descriptor."""
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" 3<&0', "sh", sys.executable, "-c", textwrap.dedent(TAKES)],
        stdin=sock, env=os.environ | {"LISTEN_FDS": count}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_socket_that_is_handed_over_is_taken(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(os.fspath(tmp_path / "d.sock"))
        assert "something else than a listening Unix socket" in taken(sock, "1")
        sock.listen()
        assert taken(sock, "1") == f"{tmp_path}/d.sock False False"
        assert taken(sock, "2") == "the service manager hands over 2 sockets; one is expected"
        assert taken(sock, "0") == "None False None"
