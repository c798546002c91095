"""Where the client looks for the daemon, and what it costs to import it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.daemon import Daemon
from trainforge.client import sockets
from trainforge.client.client import Client, NoDaemon
from trainforge.client.sockets import NAME, candidates, find_socket, user_socket

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
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(sockets, "SYSTEM_SOCKET", tmp_path / "system" / NAME)
    (tmp_path / "run").mkdir()


def test_the_order_of_places(tmp_path: Path) -> None:
    assert candidates() == (
        tmp_path / "system" / NAME,
        tmp_path / "run" / "trainforge" / NAME,
        tmp_path / f"trainforge-{UID}" / NAME,
    )
    assert user_socket() == tmp_path / "run" / "trainforge" / NAME


def test_the_variable_is_the_only_place_where_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINFORGE_SOCKET", "/some/where.sock")

    assert candidates() == (Path("/some/where.sock"),)


@pytest.mark.parametrize("runtime", ["relative", "/nonexistent"])
def test_without_a_runtime_folder_the_temporary_one_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)

    assert user_socket() == tmp_path / f"trainforge-{UID}" / NAME


def test_the_first_that_answers_is_taken(tmp_path: Path) -> None:
    with pytest.raises(NoDaemon) as nobody:
        find_socket()
    assert list(nobody.value.tried) == list(candidates())

    last = tmp_path / f"trainforge-{UID}"
    with Daemon(last / NAME):
        assert find_socket() == last / NAME
        with Daemon(tmp_path / "run" / "trainforge" / NAME) as nearer, Client(patience=0.1) as client:
            assert find_socket() == nearer.path
            client.status()
            assert client.socket == nearer.path
            nearer.stop()
            with pytest.raises(NoDaemon):  # not another daemon all of a sudden
                client.status()


def test_a_dead_socket_is_passed_over(tmp_path: Path) -> None:
    system = tmp_path / "system" / NAME
    with Daemon(system) as daemon:
        os.link(system, tmp_path / "kept")
        daemon.stop()
    os.rename(tmp_path / "kept", system)

    with Daemon(tmp_path / "run" / "trainforge" / NAME) as daemon:
        assert find_socket() == daemon.path


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
        "logging", "multiprocessing", "psutil", "rich", "ssl", "subprocess", "tempfile", "threading",
        "trainforge.client.events", "trainforge.client.waiting", "trainforged", "urllib.request", "yaml",
    }  # fmt: skip
