"""Streams over the socket: resumed without a gap, quiet ones kept alive, bounded, ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.shell.fake_service import FakeService
from tests.shell.web.served import Api, Events, served, soon, submission
from tests.support import until
from trainforge.api import JobProgress, Progress


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with served(tmp_path, heartbeat=0.05, news=0.02) as api:
        yield api


async def test_without_a_start_only_what_happens_from_now_on(api: Api) -> None:
    api.service.happen("before")
    async with api.stream("/v1/events") as reader:
        events = Events(reader)
        assert await events.place() == 1

        api.service.happen("job_started", 7, "job 7 started")

        id, type, data = await events.next()
        assert (id, type) == (2, "job_started")
        assert (data["id"], data["job"], data["message"]) == (2, 7, "job 7 started")


@pytest.mark.parametrize("start", ["after=3", "header", "both"])
async def test_a_stream_is_resumed_after_an_id(api: Api, start: str) -> None:
    for _ in range(5):
        api.service.happen("one")
    target = {"after=3": "/v1/events?after=3", "header": "/v1/events", "both": "/v1/events?after=1"}[start]
    headers = {} if start == "after=3" else {"Last_Event_ID": "3"}

    async with api.stream(target, **headers) as reader:
        events = Events(reader)
        assert await events.place() == 3
        api.service.happen("live")
        assert await events.ids(3) == [4, 5, 6]


async def test_no_gap_while_events_pour_and_connections_break(api: Api) -> None:
    """A reader that is cut off again and again, and goes on from the last id it saw."""
    total = 3000

    async def pour() -> None:
        for n in range(total):
            api.service.happen("one")
            if n % 50 == 0:
                await asyncio.sleep(0.001)

    pouring = asyncio.create_task(pour())
    got: list[int] = []
    while len(got) < total:
        async with api.stream("/v1/events", Last_Event_ID=str(got[-1] if got else 0)) as reader:
            got += await Events(reader).ids(min(97, total - len(got)))
    await pouring

    assert got == list(range(1, total + 1))


async def test_events_of_one_job(api: Api) -> None:
    await api.ask("POST", "/v1/jobs", submission("a"))
    await api.ask("POST", "/v1/jobs", submission("b"))
    async with api.stream("/v1/jobs/2/events?after=0") as reader:
        events = Events(reader)
        api.service.happen("of_one", 1)
        api.service.happen("of_two", 2)
        assert await events.ids(2) == [2, 4]


async def test_progress_and_gpus_have_no_id_and_are_the_latest(api: Api) -> None:
    async with api.stream("/v1/events") as reader:
        events = Events(reader)
        await events.place()
        for step in range(100):
            api.service.live.progress(JobProgress(job=3, progress=Progress(step=step)))
        api.service.live.gpus(await api.service.gpus())

        progress, gpus = await events.next(), await events.next()

        assert progress[:2] == (None, "progress")
        assert (progress[2]["job"], progress[2]["progress"]["step"]) == (3, 99)
        assert gpus[:2] == (None, "gpus")
        assert gpus[2]["gpus"][0]["index"] == 0


async def test_progress_is_told_at_most_once_in_a_while(tmp_path: Path) -> None:
    async with served(tmp_path, news=3600.0, heartbeat=0.05) as api, api.stream("/v1/events") as reader:
        events = Events(reader)
        await events.place()
        api.service.live.progress(JobProgress(job=1))
        assert (await events.next())[1] == "progress"

        for _ in range(10):
            api.service.live.progress(JobProgress(job=1))
        api.service.happen("job_ended", 1)

        assert (await events.next())[1] == "job_ended"
        assert (await events.next())[1:] == (None, None)  # a heartbeat, no progress yet


async def test_a_quiet_stream_has_a_heartbeat_with_its_place(api: Api) -> None:
    for job in (1, 2):
        await api.ask("POST", "/v1/jobs", submission(str(job)))
    async with api.stream("/v1/jobs/1/events") as reader:
        events = Events(reader)
        await events.place()
        assert await soon(reader.readuntil(b"\n\n")) == b": still here\nid: 2\n\n"

        api.service.happen("of_two", 2)

        while (block := await soon(reader.readuntil(b"\n\n"))) == b": still here\nid: 2\n\n":
            pass
        assert block == b": still here\nid: 3\n\n"  # passed over, and not asked for again


async def test_a_reader_that_sleeps_costs_nothing_and_misses_nothing(tmp_path: Path) -> None:
    service = FakeService(keep=50)
    async with served(tmp_path, service) as api, api.stream("/v1/events") as reader:
        events = Events(reader)
        await events.place()
        for _ in range(20_000):  # several megabytes, far above what sockets hold
            service.happen("one")
        await asyncio.sleep(0)
        assert len(service.live._recent) == 50

        assert await events.ids(20_000) == list(range(1, 20_001))


async def test_a_reader_that_takes_nothing_is_dropped_and_others_are_served(tmp_path: Path) -> None:
    service = FakeService()
    async with served(tmp_path, service, stalled=0.2) as api:
        deaf = socket.socket(socket.AF_UNIX)
        deaf.connect(str(api.path))
        deaf.sendall(b"GET /v1/events?after=0 HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
        async with api.stream("/v1/events?after=0") as reader:
            await until(lambda: len(service.live._cursors) == 2)
            for _ in range(20_000):
                service.happen("one")
            assert await Events(reader).ids(20_000) == list(range(1, 20_001))
            await until(lambda: len(service.live._cursors) == 1)
        deaf.close()


async def test_a_reader_that_leaves_is_forgotten_at_once(api: Api) -> None:
    async with api.stream("/v1/events") as reader:
        await Events(reader).place()
        assert len(api.service.live._cursors) == 1
    await until(lambda: not api.service.live._cursors)


async def test_too_many_streams_are_refused_and_room_comes_back(tmp_path: Path) -> None:
    async with served(tmp_path, streams=2) as api:
        async with api.stream("/v1/events") as a, api.stream("/v1/events") as b:
            await Events(a).place()
            await Events(b).place()
            refused = await api.ask("GET", "/v1/events", Accept="text/event-stream")
            assert (refused.status, refused.code) == (429, "too_many")
            assert refused.headers["Retry-After"] == "5"
            assert (await api.ask("GET", "/v1/events")).status == 200
        await until(lambda: not api.service.live._cursors)
        async with api.stream("/v1/events") as reader:
            await Events(reader).place()


async def test_a_followed_log_goes_on_until_the_job_has_ended(api: Api) -> None:
    await api.ask("POST", "/v1/jobs", submission())
    await api.service.write(1, b"one\n")
    following = asyncio.create_task(api.ask("GET", "/v1/jobs/1/logs?follow=true"))
    await until(lambda: api.service.followers == 1)

    await api.service.write(1, b"two\n")
    api.service.end(1)
    await api.service.write(1, b"three\n")

    answer = await soon(following)
    assert answer.body.split(b"\r\n")[1::2] == [b"one\n", b"two\n", b"three\n", b""]


async def test_a_follower_that_leaves_is_closed_though_nothing_is_written(api: Api) -> None:
    await api.ask("POST", "/v1/jobs", submission())
    _, writer = await api.connect()
    writer.write(b"GET /v1/jobs/1/logs?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
    await until(lambda: api.service.followers == 1)

    writer.close()

    await until(lambda: api.service.followers == 0)


async def test_a_followed_log_begins_before_there_is_output(api: Api) -> None:
    await api.ask("POST", "/v1/jobs", submission())
    reader, writer = await api.connect()
    writer.write(b"GET /v1/jobs/1/logs?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")

    head = await soon(reader.readuntil(b"\r\n\r\n"))

    assert b"200 OK" in head
    writer.close()


async def test_output_that_breaks_off_is_seen_to_be_cut(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    await api.ask("POST", "/v1/jobs", submission())
    api.service.output[1] = [b"one\n", b"CRASH"]

    answer = await api.ask("GET", "/v1/jobs/1/logs")

    assert answer.status == 200
    assert not answer.body.endswith(b"0\r\n\r\n")  # the mark of a whole answer
    (record,) = [r for r in caplog.records if r.levelname == "ERROR"]
    assert "stream /v1/jobs/1/logs failed" in record.getMessage()


async def test_streams_end_when_the_daemon_stops(tmp_path: Path) -> None:
    for number in range(5):  # where somebody else had the machine, again
        (tmp_path / str(number)).mkdir()
        took = await ends_streams(tmp_path / str(number))
        if took < 1.5:
            break
    assert took < 1.5


async def ends_streams(tmp_path: Path) -> float:
    """How many seconds an orderly end takes."""
    service = FakeService()
    async with contextlib.AsyncExitStack() as stack:
        async with served(tmp_path, service) as api:
            await api.ask("POST", "/v1/jobs", submission())
            reader = await stack.enter_async_context(api.stream("/v1/events?after=0"))
            log, writer = await api.connect()
            writer.write(b"GET /v1/jobs/1/logs?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
            whole, other = await api.connect()
            other.write(b"GET /v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
            await until(lambda: service.followers == 1 and len(service.live._cursors) == 2)
            await Events(reader).ids(1)
            began = asyncio.get_running_loop().time()
        took = asyncio.get_running_loop().time() - began
        assert await soon(reader.read()) == b""
        assert (await soon(whole.read())).endswith(b"0\r\n\r\n")
        assert not (await soon(log.read())).endswith(b"0\r\n\r\n")
        writer.close()
        other.close()
    assert service.followers == 0
    assert not service.live.watched
    return took
