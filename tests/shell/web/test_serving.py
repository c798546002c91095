"""The Unix socket itself: made private, taken over only from the dead, left clean."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
from pathlib import Path

import pytest

from tests.shell.fake_service import FakeService
from tests.shell.web.served import Api, served, submission
from tests.support import until
from trainforged.web.app import make_app
from trainforged.web.serving import SocketTaken, serve_unix


async def test_the_socket_is_for_its_user_alone_and_removed_in_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    async with served(folder) as api:
        assert stat.S_IMODE(os.stat(api.path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        assert (await api.ask("GET", "/v1/status")).status == 200
    assert os.listdir(folder) == ["d.sock.lock"]


async def test_a_socket_left_by_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "d.sock"))
        dead.listen()
    (tmp_path / "d.sock.new").touch()

    async with served(tmp_path) as api:
        assert (await api.ask("GET", "/v1/status")).status == 200


async def test_a_daemon_that_answers_keeps_its_socket(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        with pytest.raises(SocketTaken, match="another daemon"):
            await serve_unix(make_app(FakeService()), api.path)
        os.unlink(f"{api.path}.lock")  # one that knows nothing of locks
        with pytest.raises(SocketTaken, match="another daemon answers"):
            await serve_unix(make_app(FakeService()), api.path)
        assert (await api.ask("GET", "/v1/status")).status == 200


async def test_something_else_in_its_place_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "d.sock").write_text("precious")

    with pytest.raises(SocketTaken, match="not a socket"):
        await serve_unix(make_app(FakeService()), tmp_path / "d.sock")

    assert (tmp_path / "d.sock").read_text() == "precious"


async def test_a_path_too_long_for_a_socket_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(SocketTaken, match="at most 103 bytes"):
        await serve_unix(make_app(FakeService()), tmp_path / ("x" * 100))


async def test_a_socket_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        os.unlink(api.path)
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(api.path))
    assert (tmp_path / "d.sock").exists()


async def test_a_socket_that_is_handed_over_is_served_and_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "handed.sock"
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()

    serving = await serve_unix(make_app(FakeService()), sock=sock)
    try:
        answer = await Api(FakeService(), path, serving).ask("GET", "/v1/status")
        assert answer.status == 200
    finally:
        await serving.close()
    assert path.exists()


async def test_of_many_daemons_that_start_at_once_one_gets_the_socket(tmp_path: Path) -> None:
    apps = [make_app(FakeService()) for _ in range(10)]

    results = await asyncio.gather(
        *(serve_unix(app, tmp_path / "d.sock") for app in apps), return_exceptions=True
    )

    (winner,) = [result for result in results if not isinstance(result, BaseException)]
    assert sum(isinstance(result, SocketTaken) for result in results) == 9
    await winner.close()


async def test_a_request_under_way_is_answered_before_the_end(tmp_path: Path) -> None:
    for number in range(5):  # where somebody else had the machine, again
        (tmp_path / str(number)).mkdir()
        took = await answers_at_its_end(tmp_path / str(number))
        if took < 1.0:
            break
    assert took < 1.0


async def answers_at_its_end(tmp_path: Path) -> float:
    """How many seconds an orderly end takes."""
    service = FakeService()
    service.slow = 0.1
    async with served(tmp_path, service) as api:
        reader, writer = await api.connect()
        idle = await api.connect()
        asking = asyncio.create_task(api.ask("POST", "/v1/jobs", submission()))
        await until(lambda: service.entered == 1)
        began = asyncio.get_running_loop().time()
    took = asyncio.get_running_loop().time() - began
    assert (await asking).status == 201
    writer.close()
    idle[1].close()
    assert await reader.read() == b""
    return took


async def test_requests_are_not_logged_unless_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    access = logging.getLogger("trainforged.web.access")
    async with served(tmp_path) as api:
        await api.ask("GET", "/v1/status")
        assert not [r for r in caplog.records if r.levelno >= logging.INFO and "web" in r.name]
    access.setLevel(logging.INFO)
    try:
        async with served(tmp_path) as api:
            await api.ask("GET", "/v1/status")
            await until(lambda: any("GET /v1/status" in r.getMessage() for r in caplog.records))
    finally:
        access.setLevel(logging.WARNING)


@pytest.mark.parametrize("turns", range(5))
async def test_who_connects_while_it_stops_is_not_left_hanging(tmp_path: Path, turns: int) -> None:
    """Whatever the loop has got to: not yet accepted, accepted, or already a connection."""
    serving = await serve_unix(make_app(FakeService()), tmp_path / "d.sock")
    clients = [socket.socket(socket.AF_UNIX) for _ in range(5)]
    for client in clients:
        client.connect(str(tmp_path / "d.sock"))
        client.sendall(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
    for _ in range(turns):
        await asyncio.sleep(0)

    await serving.close()

    for client in clients:
        client.settimeout(1)
        with contextlib.suppress(ConnectionResetError):
            while await asyncio.to_thread(client.recv, 10_000):
                pass
        client.close()
