"""What memory can answer is answered where it arrives, and as the long way would have answered it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from pathlib import Path

import pytest

from tests.shell.fake_service import FakeService
from tests.shell.web.served import Answer, Api, served, soon, submission
from trainforged.web.app import make_app, make_web_app
from trainforged.web.at_once import MOST, AtOnce, is_plain
from trainforged.web.context import CONTEXT
from trainforged.web.serving import serve_tcp, serve_unix

GPUS = b"GET /v1/gpus HTTP/1.1\r\nHost: x\r\n\r\n"


class Line:
    """One connection that is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def of(cls, api: Api) -> Line:
        return cls(*await api.connect())

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def receive(self) -> Answer:
        head = await soon(self._reader.readuntil(b"\r\n\r\n"))
        length = int(Answer(head).headers["Content-Length"])
        return Answer(head + await soon(self._reader.readexactly(length)))

    async def ask(self, data: bytes) -> Answer:
        self.send(data)
        return await self.receive()

    def close(self) -> None:
        self._writer.close()


@pytest.mark.parametrize("target", ["/v1/gpus", "/v1/status", "/v1/jobs/1", "/v1/events?after=0&limit=2"])
async def test_the_second_answer_is_as_the_first(tmp_path: Path, target: str) -> None:
    async with served(tmp_path) as api:
        await api.ask("POST", "/v1/jobs", submission())
        for _ in range(3):
            api.service.happen("it")
        line = await Line.of(api)
        request = f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()

        first = await line.ask(request)
        before = api.service.memory.asked
        second = await line.ask(request)

        assert api.service.memory.asked == before + 1
        assert first.status == second.status == 200
        assert first.body == second.body
        first.headers.pop("Date")
        assert second.headers.pop("Date").endswith(" GMT")
        assert list(first.headers.items()) == list(second.headers.items())
        line.close()


async def test_it_is_counted_as_all_are(tmp_path: Path) -> None:
    app = make_app(FakeService())
    serving = await serve_unix(app, tmp_path / "d.sock")
    line = Line(*await asyncio.open_unix_connection(tmp_path / "d.sock"))
    for _ in range(3):
        await line.ask(GPUS)
    assert app[CONTEXT].requests["GET", "/v1/gpus", 200] == 3
    line.close()
    await serving.close()


async def test_the_answer_is_of_now(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        line = await Line.of(api)
        assert (await line.ask(GPUS)).json["gpus"][0]["state"] == "free"
        api.service.drained = "to be looked at"
        assert (await line.ask(GPUS)).json["gpus"][0]["state"] == "drained"
        line.close()


async def test_what_memory_does_not_know_goes_the_long_way(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        line = await Line.of(api)
        await line.ask(GPUS)
        api.service.memory.away = True
        assert (await line.ask(GPUS)).status == 200
        assert (await line.ask(GPUS)).status == 200
        api.service.broken = ValueError("of the service")
        status = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"
        assert (await line.ask(status)).code == "internal"
        api.service.broken = None
        assert (await line.ask(status)).status == 200
        api.service.broken = ValueError("of the service")
        assert (await line.ask(status)).code == "internal"
        line.close()


async def test_several_at_once_are_answered_in_their_order(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        line = await Line.of(api)
        await line.ask(GPUS)
        missing = b"GET /v1/nowhere HTTP/1.1\r\nHost: x\r\n\r\n"
        for requests in (missing + GPUS + missing, GPUS + missing + GPUS):
            line.send(requests)
            found = [(await line.receive()).status for _ in range(3)]
            assert found == [200 if requests.startswith(GPUS) != (n == 1) else 404 for n in range(3)]
        line.close()


async def test_the_same_bytes_within_something_else_are_no_question(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        line = await Line.of(api)
        await line.ask(GPUS)
        entered = api.service.memory.asked

        body = f"POST /v1/files/missing HTTP/1.1\r\nHost: x\r\nContent-Length: {len(GPUS)}\r\n\r\n"
        line.send(body.encode())
        await api.ask("GET", "/v1/jobs")  # the head has been read by now
        assert (await line.ask(GPUS)).code == "invalid_request", "it is the body, and no JSON"
        assert api.service.memory.asked == entered

        other = await Line.of(api)
        other.send(b"GET /v1/status HTTP/1.1\r\nX-Long: ")
        await api.ask("GET", "/v1/jobs")
        assert "version" in (await other.ask(GPUS)).json, "it is the end of a header"
        line.close()
        other.close()


async def test_a_connections_rate_holds(tmp_path: Path) -> None:
    async with served(tmp_path, requests_per_second=0.001, burst=5) as api:
        line = await Line.of(api)
        found = [(await line.ask(GPUS)).status for _ in range(8)]
        assert found == [200] * 5 + [429] * 3
        line.close()


async def test_every_request_is_in_the_access_log_where_there_is_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "trainforged.web.access"):
        async with served(tmp_path) as api:
            line = await Line.of(api)
            for _ in range(3):
                await line.ask(GPUS)
            line.close()
    assert sum("GET /v1/gpus" in record.getMessage() for record in caplog.records) == 3


async def test_one_that_closes_is_not_remembered(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        closing = b"GET /v1/gpus HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        for _ in range(3):
            assert Answer(await soon(api.raw(closing))).status == 200
        assert api.service.memory.asked == 0


async def test_the_web_port_asks_its_gate_each_time(tmp_path: Path) -> None:
    service = FakeService()
    app = make_app(service)
    serving = await serve_unix(app, tmp_path / "d.sock")
    port = await serve_tcp(make_web_app(app), "127.0.0.1", 0)
    line = Line(*await asyncio.open_unix_connection(tmp_path / "d.sock"))
    await line.ask(GPUS)
    host, _, number = port.address.rpartition(":")

    outside = Line(*await asyncio.open_connection(host, int(number)))

    assert (await outside.ask(GPUS)).status in (401, 403)
    assert service.memory.asked == 0
    line.close()
    outside.close()
    await port.close()
    await serving.close()


def test_what_is_plain() -> None:
    assert is_plain(GPUS)
    for other in (
        GPUS + GPUS,
        GPUS[:-1],
        GPUS + b"x",
        GPUS.replace(b"GET", b"PUT"),
        GPUS.replace(b"Host: x", b"Host: x\r\nContent-length: 3"),
        GPUS.replace(b"Host: x", b"Host: x\r\nTransfer-Encoding: chunked"),
        GPUS.replace(b"Host: x", b"Host: x\r\nUpgrade: websocket"),
        GPUS.replace(b"Host: x", b"Host: " + b"x" * 2000),
    ):
        assert not is_plain(other), other


def test_memory_is_bounded() -> None:
    requests = Counter[tuple[str, str, int]]()
    known = AtOnce(requests)
    for number in range(MOST + 10):
        known.learn(b"%d" % number, "/", dict)
    assert known.answer(b"0") is None
    assert known.answer(b"%d" % (MOST + 9)) is not None
    assert requests["GET", "/", 200] == 1
