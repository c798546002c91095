"""What one client may cost, and that the others do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.shell.fake_service import FakeService
from tests.shell.web.served import DEADLINE, Answer, served, soon, submission
from tests.support import until
from trainforged.web.limits import CROWD, Budget, Inflow, TokenBucket

SHA = "a" * 64
MIB = 2**20


def pour(path: Path, head: bytes, size: int) -> tuple[Answer, int]:
    """Send a body of this size for as long as it is taken; the answer, and how much went out."""
    sent, piece = 0, bytes(MIB)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(DEADLINE)
        sock.connect(str(path))
        sock.sendall(head)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while sent < size:
                sock.sendall(piece)
                sent += len(piece)
        return Answer(sock.recv(10_000)), sent


async def test_a_gigabyte_is_refused_at_once(tmp_path: Path) -> None:
    async with served(tmp_path, file=100 * MIB) as api:
        head = f"PUT /v1/files/{SHA} HTTP/1.1\r\nHost: x\r\nContent-Length: {2**30}\r\n\r\n".encode()

        reader, writer = await api.connect()
        writer.write(head)  # and not a byte of it
        answer = Answer(await soon(reader.readuntil(b"}}")))

        assert (answer.status, answer.code) == (413, "too_large")
        assert answer.headers["Connection"] == "close"
        writer.close()
        assert not api.service.contents


@pytest.mark.parametrize("target", [f"PUT /v1/files/{SHA}", "POST /v1/jobs"])
async def test_a_body_without_a_length_is_refused_when_it_is_too_much(tmp_path: Path, target: str) -> None:
    async with served(tmp_path, file=4 * MIB, json_body=4 * MIB) as api:
        before = psutil.Process().memory_info().rss
        size = 2**36  # more than goes through while the refusal is on its way
        head = f"{target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n"

        answer, sent = await asyncio.to_thread(pour, api.path, head.encode(), size)

        assert (answer.status, answer.code) == (413, "too_large")
        assert sent < size
        assert psutil.Process().memory_info().rss - before < 50 * MIB
        assert (await api.ask("GET", "/v1/status")).status == 200


async def test_a_file_of_just_the_limit_is_taken(tmp_path: Path) -> None:
    data = bytes(2 * MIB)
    sha256 = hashlib.sha256(data).hexdigest()
    async with served(tmp_path, file=len(data)) as api:
        assert (await api.ask("PUT", f"/v1/files/{sha256}", data)).status == 204
        assert (await api.ask("PUT", f"/v1/files/{SHA}", data + b"x")).status == 413


async def test_who_sends_much_leaves_room_for_who_asks(tmp_path: Path) -> None:
    data = bytes(3 * MIB)
    sha256 = hashlib.sha256(data).hexdigest()
    async with served(tmp_path, inflow=2.0 * MIB) as api:
        began = time.monotonic()
        sending = asyncio.create_task(api.ask("PUT", f"/v1/files/{sha256}", data))
        answers = 0
        while not sending.done():
            assert (await api.ask("GET", "/v1/status")).status == 200
            answers += 1
        assert (await sending).status == 204
        assert time.monotonic() - began > 1.2, "so long it takes at that rate"
        assert answers > 1
        assert api.service.contents[sha256] == data


def test_small_pieces_do_not_count_against_the_inflow() -> None:
    now = [0.0]
    inflow = Inflow(100.0 * MIB, lambda: now[0])
    assert inflow.take(50 * MIB) == pytest.approx(0.48)
    assert inflow.take(1000) == 0
    assert inflow.take(50 * MIB) == pytest.approx(0.98)
    now[0] = 2.0
    assert inflow.take(2 * MIB) == 0


def test_while_a_crowd_asks_less_comes_in() -> None:
    now = [0.0]
    inflow = Inflow(100.0 * MIB, lambda: now[0], in_crowd=10.0 * MIB)
    for _ in range(CROWD):
        inflow.asked()
    assert inflow.take(5 * MIB) == pytest.approx(0.48)
    now[0] = 100.0
    for _ in range(CROWD - 1):
        inflow.asked()
    assert inflow.take(5 * MIB) == pytest.approx(0.03), "so few are no crowd"
    inflow.asked()
    assert inflow.take(1 * MIB) == pytest.approx(0.4)
    now[0] = 101.0
    assert inflow.take(1 * MIB) == 0, "and it is over"


async def test_a_body_that_trickles_is_given_up(tmp_path: Path) -> None:
    async with served(tmp_path, body_patience=0.2, least_rate=1e6) as api:
        reader, writer = await api.connect()
        writer.write(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n")

        async def trickle() -> None:
            while True:
                writer.write(b" ")
                await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        answer = Answer(await soon(reader.readuntil(b"}}")))
        trickling.cancel()

        assert (answer.status, answer.code) == (408, "timeout")
        writer.close()


async def test_the_daemons_own_slowness_is_not_held_against_a_body(tmp_path: Path) -> None:
    """A disk that takes longer than the client's patience: only waiting for the client counts."""

    class SlowDisk(FakeService):
        async def put_file(self, sha256: str, chunks: AsyncIterator[bytes]) -> None:
            async def slowed() -> AsyncIterator[bytes]:
                pauses = [0.1] * 3
                async for chunk in chunks:
                    await asyncio.sleep(pauses.pop() if pauses else 0)
                    yield chunk

            await super().put_file(sha256, slowed())

    service = SlowDisk()
    data = bytes(4 * MIB)
    sha256 = hashlib.sha256(data).hexdigest()
    async with served(tmp_path, service, body_patience=0.15, least_rate=1e12) as api:
        assert (await api.ask("PUT", f"/v1/files/{sha256}", data)).status == 204


@pytest.mark.parametrize("begun", [b"", b"GET /v1/status HT", b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_a_connection_that_says_nothing_whole_is_closed(tmp_path: Path, begun: bytes) -> None:
    async with served(tmp_path, idle=0.1) as api:
        data = await api.raw(begun)

        assert data.count(b"HTTP/1.1 ") == begun.endswith(b"\r\n\r\n")


async def test_a_connection_under_way_is_not_idle(tmp_path: Path) -> None:
    service = FakeService()
    service.slow = 0.3
    async with served(tmp_path, service, idle=0.05) as api:
        assert (await api.ask("POST", "/v1/jobs", submission())).status == 201


async def test_too_many_connections_are_told_so_and_room_comes_back(tmp_path: Path) -> None:
    async with served(tmp_path, connections=3, quiet=DEADLINE) as api:
        held = [await api.connect() for _ in range(3)]
        for reader, writer in held:
            writer.write(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200 OK" in await soon(reader.readuntil(b"\r\n\r\n"))

        refused = Answer(await api.raw(b""))

        assert (refused.status, refused.code) == (429, "too_many")
        assert refused.headers["Retry-After"] == "1"
        held[0][1].close()
        serving = api.serving.connections
        await until(lambda: serving() == 2)
        assert (await api.ask("GET", "/v1/status")).status == 200
        for _, writer in held:
            writer.close()


async def test_connections_that_ask_for_nothing_keep_nobody_out(tmp_path: Path) -> None:
    """Those that never asked go first, whatever they have begun to say; one under way stays."""
    service = FakeService()
    service.slow = 0.5
    async with served(tmp_path, service, connections=16, quiet=0.0) as api:
        busy_reader, busy = await api.connect()
        body = json.dumps(submission()).encode()
        busy.write(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        asked_reader, asked = await api.connect()
        asked.write(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in await soon(asked_reader.readuntil(b"\r\n\r\n"))
        held = [await api.connect() for _ in range(14)]
        for _, writer in held[::2]:
            writer.write(b"GET /v1/status HTTP/1.1\r\nX: ")
        await until(lambda: api.serving.connections() == 16)

        assert (await api.ask("GET", "/v1/status")).status == 200

        await until(lambda: any(reader.at_eof() for reader, _ in held))
        assert b" 201 " in await soon(busy_reader.readline())
        assert not asked_reader.at_eof()
        for writer in (busy, asked, *(writer for _, writer in held)):
            writer.close()


async def test_one_connection_asks_too_fast_and_others_do_not_pay(tmp_path: Path) -> None:
    async with served(tmp_path, requests_per_second=0.5, burst=5) as api:
        reader, writer = await api.connect()
        request = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"
        writer.write(request * 5 + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

        data = await soon(reader.read())

        assert data.count(b"HTTP/1.1 200") == 5
        last = Answer(data[data.rindex(b"HTTP/1.1 ") :])
        assert (last.status, last.code, last.headers["Retry-After"]) == (429, "too_many", "2")
        assert (await api.ask("GET", "/v1/status")).status == 200
        writer.close()


async def test_answers_that_are_not_taken_are_given_up(tmp_path: Path) -> None:
    service = FakeService()
    async with served(tmp_path, service, stalled=0.1) as api:
        await api.ask("POST", "/v1/jobs", [submission(f"job{n}") for n in range(1000)])
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.connect(str(api.path))
            deaf.sendall(b"GET /v1/jobs?limit=1000 HTTP/1.1\r\nHost: x\r\n\r\n" * 5)
            await until(lambda: api.serving.connections() == 1)
            assert (await api.ask("GET", "/v1/status")).status == 200

            await until(lambda: api.serving.connections() == 0)


async def test_five_hundred_clients_at_once_are_all_served(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        answers = await asyncio.gather(
            *(api.ask("POST", "/v1/jobs", submission(f"job{n}")) for n in range(500))
        )

    assert [answer.status for answer in answers] == [201] * 500
    assert {answer.json["id"] for answer in answers} == set(range(1, 501))
    assert len(api.service.all) == 500


async def test_many_large_bodies_wait_for_their_turn_and_small_ones_do_not(tmp_path: Path) -> None:
    body = json.dumps(submission("large", shell={"env": {"X": "y" * MIB}})).encode()
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with served(tmp_path, json_body=2 * MIB, bodies_in_memory=2 * MIB) as api:
        first_reader, first = await api.connect()
        first.write(head + body[:-1])
        await soon(first.drain())
        others = [asyncio.create_task(api.ask("POST", "/v1/jobs", body)) for _ in range(8)]
        await until(lambda: api.serving.connections() == 9)
        assert (await api.ask("POST", "/v1/jobs", submission("small"))).status == 201
        assert [job.name for job in api.service.all.values()] == ["small"]

        first.write(body[-1:])

        assert b" 201 " in await soon(first_reader.readline())
        assert [answer.status for answer in await asyncio.gather(*others)] == [201] * 8
        first.close()


async def test_budget_is_given_in_order_and_given_back() -> None:
    budget = Budget(10)
    await budget.take(6)
    large = asyncio.create_task(budget.take(8))
    small = asyncio.create_task(budget.take(2))
    await asyncio.sleep(0)
    assert not large.done()
    assert not small.done()  # it would fit, but came later

    large.cancel()
    await soon(small)
    budget.give_back(6)
    await soon(budget.take(8))
    waiting = asyncio.create_task(budget.take(1))
    await asyncio.sleep(0)
    budget.give_back(8)  # its turn has come, and in the same moment it is cancelled
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    budget.give_back(2)
    await soon(budget.take(10))


def test_token_bucket() -> None:
    bucket = TokenBucket(rate=2, burst=3)

    assert [bucket.take(0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert bucket.take(0.25) == pytest.approx(0.25)
    assert bucket.take(0.5) == 0
    assert [bucket.take(100) for _ in range(4)] == [0, 0, 0, 0.5]
