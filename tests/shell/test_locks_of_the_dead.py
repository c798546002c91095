"""A daemon is killed while it starts a program: for a moment that has the daemon's locks and its socket."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest

from trainforged.storage.errors import StateDirBusy
from trainforged.storage.statedir import lock_state_dir
from trainforged.web.serving import SocketTaken, _Place

DAEMON = """
import os, sys
from pathlib import Path
from trainforged.storage.statedir import lock_state_dir
from trainforged.web.serving import _Place
lock, place = lock_state_dir(Path(sys.argv[1])), _Place(Path(sys.argv[1]) / "d.sock")
sock = place.take()
if os.fork() == 0:          # as between clone and exec
    if sys.argv[2] == "socket":
        lock.release()
        os.close(place._lock)
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)
sys.stdin.read()
"""


class Dead:
    """A daemon that was killed, and the child that it left."""

    def __init__(self, folder: Path, keeps: str) -> None:
        self._daemon = subprocess.Popen(
            [sys.executable, "-c", DAEMON, str(folder), keeps],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert self._pipe(self._daemon.stdout).readline() == b"ready\n"
        self._daemon.kill()
        self._daemon.wait()

    def leave(self) -> None:
        """The child does what it was made for: it lets go."""
        self._pipe(self._daemon.stdin).close()
        self._pipe(self._daemon.stdout).read()
        self._pipe(self._daemon.stdout).close()

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe


@pytest.fixture
def leaves_when_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The child lets go once somebody waits for it; the waits."""
    dead, waits = Dead(tmp_path, "everything"), list[float]()

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 1:
            dead.leave()

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=sleep)
    monkeypatch.setattr("trainforge.locks.time", clock)
    return waits


def test_the_state_folder_of_a_dead_daemon_is_waited_for(
    tmp_path: Path, leaves_when_waited_for: list[float]
) -> None:
    lock_state_dir(tmp_path).release()
    assert leaves_when_waited_for


def test_the_lock_of_its_socket_is_waited_for(tmp_path: Path, leaves_when_waited_for: list[float]) -> None:
    place = _Place(tmp_path / "d.sock")
    place.take().close()
    place.leave()
    assert leaves_when_waited_for


def test_a_socket_on_which_a_dead_daemon_listened_is_replaced(tmp_path: Path) -> None:
    dead = Dead(tmp_path, "socket")
    place = _Place(tmp_path / "d.sock")
    place.take().close()
    place.leave()
    dead.leave()


def test_what_a_living_daemon_has_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(seconds: float) -> None:
        raise AssertionError("nobody waits for it")

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=sleep)
    monkeypatch.setattr("trainforge.locks.time", clock)
    place = _Place(tmp_path / "d.sock")
    with lock_state_dir(tmp_path), place.take(), pytest.raises(StateDirBusy):
        lock_state_dir(tmp_path)
    with pytest.raises(SocketTaken, match="serving there"):
        _Place(tmp_path / "d.sock").take()
    place.leave()
