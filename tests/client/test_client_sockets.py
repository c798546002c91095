"""Where the client looks for the daemon, and what it costs to import it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.client.daemon import Daemon
from trainforge.client import sockets
from trainforge.client.client import Client, NoDaemon
from trainforge.client.home import user_name
from trainforge.client.sockets import NAME, candidates, connect, user_socket

UID = os.getuid()


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Short: a socket's path has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="tf-") as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No daemon of the machine this runs on is found."""
    monkeypatch.delenv("TRAINFORGE_SOCKET", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(sockets, "SYSTEM_SOCKET", tmp_path / "system" / NAME)
    (tmp_path / "run").mkdir()


def find_socket() -> Path:
    """The first socket that a daemon answers on."""
    sock, path = connect(None, 5.0)
    sock.close()
    return path


def test_the_order_of_places(tmp_path: Path) -> None:
    assert candidates() == (
        tmp_path / "run" / "trainforge" / NAME,
        tmp_path / f"trainforge-{UID}" / NAME,
        tmp_path / "system" / NAME,
    )
    assert user_socket() == tmp_path / "run" / "trainforge" / NAME


def test_the_state_folder_tells_where_its_daemon_listens(tmp_path: Path) -> None:
    """A shell, or cron, with another runtime folder than the one in which the daemon was started."""
    folder = tmp_path / "state" / "trainforge"
    folder.mkdir(parents=True)
    (folder / "socket").write_text("/else/where.sock")
    assert candidates()[:2] == (Path("/else/where.sock"), tmp_path / "run" / "trainforge" / NAME)
    (folder / "socket").write_text("relative")
    assert candidates()[0] == tmp_path / "run" / "trainforge" / NAME


def test_the_variable_is_the_only_place_where_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINFORGE_SOCKET", "/some/where.sock")

    assert candidates() == (Path("/some/where.sock"),)


@pytest.mark.parametrize("runtime", ["relative", "/nonexistent"])
def test_without_a_runtime_folder_the_temporary_one_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)

    assert user_socket() == tmp_path / f"trainforge-{UID}" / NAME


def keep_state(tmp_path: Path, *, pid: int = 1, states: Sequence[str] = ()) -> Path:
    """This user's state folder, as a daemon with that pid leaves it that had jobs in these states."""
    folder = tmp_path / "state" / "trainforge"
    folder.mkdir(parents=True)
    (folder / "lock").write_text(f"{pid:<20}\n")
    with contextlib.closing(sqlite3.connect(folder / "trainforge.db")) as database, database:
        database.execute("CREATE TABLE jobs (state TEXT)")
        database.executemany("INSERT INTO jobs VALUES (?)", [(state,) for state in states])
    return folder


def test_this_users_own_is_taken_before_the_machines(tmp_path: Path) -> None:
    with pytest.raises(NoDaemon) as nobody:
        find_socket()
    assert list(nobody.value.tried) == list(candidates())

    system = tmp_path / "system" / NAME
    with Daemon(system):
        assert find_socket() == system
        with Daemon(tmp_path / "run" / "trainforge" / NAME) as own, Client(patience=0.1) as client:
            assert find_socket() == own.path
            client.status()
            assert client.socket == own.path
            own.stop()
            with pytest.raises(NoDaemon):  # not another daemon all of a sudden
                client.status()
        assert find_socket() == system


def test_while_jobs_are_unfinished_no_other_daemon_is_talked_to(tmp_path: Path) -> None:
    folder = keep_state(tmp_path, states=("succeeded", "held"))
    for place in candidates():
        with Daemon(place), pytest.raises(NoDaemon, match=f"other than that of your .* {folder}"):
            find_socket()
    (folder / "lock").write_text(f"{os.getpid():<20}\n")
    for place in candidates():
        with Daemon(place):
            assert find_socket() == place


def test_ended_jobs_bind_nobody(tmp_path: Path) -> None:
    keep_state(tmp_path, states=("succeeded", "failed", "cancelled"))
    with Daemon(tmp_path / "system" / NAME) as machine:
        assert find_socket() == machine.path


def test_a_daemon_in_the_temporary_folder_is_ours_if_its_state_is(tmp_path: Path) -> None:
    with Daemon(tmp_path / f"trainforge-{UID}" / NAME) as daemon:
        with pytest.raises(NoDaemon, match="with another state folder"):
            find_socket()
        keep_state(tmp_path, pid=os.getpid())
        assert find_socket() == daemon.path


def test_a_chosen_daemon_is_talked_to_whatever_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_state(tmp_path, states=("held",))
    with Daemon(tmp_path / "chosen") as daemon:
        monkeypatch.setenv("TRAINFORGE_SOCKET", str(daemon.path))
        assert find_socket() == daemon.path


def test_the_socket_of_a_daemon_that_died_is_not_passed_over(tmp_path: Path) -> None:
    own = tmp_path / "run" / "trainforge" / NAME
    with Daemon(own) as daemon:
        os.link(own, tmp_path / "kept")
        daemon.stop()
    os.rename(tmp_path / "kept", own)

    with Daemon(tmp_path / "system" / NAME) as machine:
        with pytest.raises(NoDaemon) as found:
            find_socket()
        assert found.value.tried == {own: "Connection refused"}
        own.unlink()
        assert find_socket() == machine.path


@pytest.mark.parametrize("mode", [0o777, 0o750])
def test_a_temporary_folder_open_to_others_is_not_trusted(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / f"trainforge-{UID}"
    with Daemon(folder / NAME):
        folder.chmod(mode)
        with pytest.raises(NoDaemon, match="not a folder of this user alone"):
            find_socket()


def test_a_temporary_folder_that_is_a_link_is_not_trusted(tmp_path: Path) -> None:
    with Daemon(tmp_path / "elsewhere" / NAME):
        (tmp_path / f"trainforge-{UID}").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(NoDaemon, match="not a folder of this user alone"):
            find_socket()


def test_what_the_client_imports() -> None:
    """A command starts with this; each of these would cost it a tenth of its time or more."""
    code = "import sys, trainforge.client.client; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(found.stdout.split())

    assert "trainforge.client.client" in loaded
    assert not loaded & {
        "aiohttp", "asyncio", "concurrent.futures", "dataclasses", "email", "http", "http.client", "json",
        "logging", "multiprocessing", "psutil", "rich", "sqlite3", "ssl", "subprocess", "tempfile",
        "threading", "trainforge.client.events", "trainforge.client.waiting", "trainforged",
        "urllib.request", "yaml",
    }  # fmt: skip


def test_whose_jobs_they_are_is_told_by_the_number_and_not_by_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = user_name()
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    assert user_name() == mine
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_001)
    assert user_name() == "4000000001"
