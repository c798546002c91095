"""Whatever is sent, the answer is JSON in the agreed form, and the daemon goes on."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.shell.fake_service import FakeService
from tests.shell.web.served import Answer, Api, served, soon, submission
from tests.support import until
from trainforged.web.app import TABLE

DEEP = b'{"spec": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b'}, "request_id": "a"}'


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with served(tmp_path) as api:
        yield api


async def alive(api: Api) -> bool:
    return (await api.ask("GET", "/v1/status")).status == 200


@pytest.mark.parametrize(
    ("body", "path", "words"),
    [
        (b"{", "", "not JSON"),
        (b"\xff\xfe", "", "not JSON"),
        (b"", "", "missing required field `spec`"),
        (b"[]", "", "empty"),
        (b"7", "", "expected form"),
        (DEEP, "", "nested too deeply"),
        ({"spec": {}}, "", "request_id"),
        ({"spec": 3, "request_id": "a"}, "spec", "Expected `object`, got `int`"),
        ([submission(), {"spec": {}, "request_id": 7}], "[1].request_id", "Expected `str`, got `int`"),
        (submission(hodl=True), "", "hodl"),
        (submission(hold="yes"), "hold", "Expected `bool`, got `str`"),
        (submission(files=[{"path": 7}]), "files[0].path", "Expected `str`, got `int`"),
        (submission(git={"commit": "x"}), "git", "dirty"),
    ],
)
async def test_a_wrong_body_is_refused_with_the_place(api: Api, body: Any, path: str, words: str) -> None:
    answer = await api.ask("POST", "/v1/jobs", body)

    assert (answer.status, answer.code) == (400, "invalid_request")
    assert words in answer.json["error"]["message"]
    if path:
        assert [detail["path"] for detail in answer.json["error"]["details"]] == [path]
    assert not api.service.all


@pytest.mark.parametrize(
    ("target", "path", "words"),
    [
        ("/v1/jobs?limit=0", "limit", ">= 1"),
        ("/v1/jobs?limit=1001", "limit", "<= 1000"),
        ("/v1/jobs?limit=many", "limit", "Expected `int`"),
        ("/v1/jobs?limit=", "limit", "Expected `int`"),
        ("/v1/jobs?limit=1&limit=2", "limit", "2 times"),
        ("/v1/jobs?state=sleeping", "state[0]", "sleeping"),
        ("/v1/jobs?stat=queued", "stat", "did you mean state?"),
        ("/v1/jobs/1/logs?follow=maybe", "follow", "Expected `bool`"),
        ("/v1/jobs/1/logs?tail=-1", "tail", ">= 0"),
        ("/v1/jobs/1/logs?attempt=first", "attempt", ""),
        ("/v1/jobs/1/metrics?points=1", "points", ">= 2"),
        ("/v1/jobs/1/metrics?since=nan", "since", ""),
        ("/v1/events?after=-5", "after", ">= 0"),
        (f"/v1/events?after={2**70}", "after", ""),
        ("/v1/gpus?history=-1", "history", ">= 0"),
    ],
)
async def test_a_wrong_query_is_refused_with_the_place(api: Api, target: str, path: str, words: str) -> None:
    await api.ask("POST", "/v1/jobs", submission())

    answer = await api.ask("GET", target)

    assert (answer.status, answer.code) == (400, "invalid_request")
    assert [detail["path"] for detail in answer.json["error"]["details"]] == [path]
    assert words in answer.json["error"]["message"]


async def test_an_unknown_address_and_a_wrong_method(api: Api) -> None:
    unknown = await api.ask("GET", "/v1/jobz")
    wrong = await api.ask("PUT", "/v1/jobs")

    assert (unknown.status, unknown.code) == (404, "not_found")
    assert (wrong.status, wrong.code) == (405, "method_not_allowed")
    assert wrong.headers["Allow"] == "GET, POST"


@pytest.mark.parametrize("id", ["abc", "-3", "1.5", str(2**64)])
async def test_a_wrong_event_id_is_refused(api: Api, id: str) -> None:
    answer = await api.ask("GET", "/v1/events", Accept="text/event-stream", Last_Event_ID=id)

    assert (answer.status, answer.code) == (400, "invalid_request")


async def test_an_error_inside_is_told_by_an_id_that_is_logged(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    api.service.broken = ValueError("a secret")

    answer = await api.ask("GET", "/v1/status")

    assert (answer.status, answer.code) == (500, "internal")
    assert b"secret" not in answer.body
    id = answer.json["error"]["message"].split()[2].rstrip(";")
    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert id in record.getMessage()
    assert record.exc_info is not None
    api.service.broken = None
    assert await alive(api)


async def test_every_error_inside_is_an_answer(api: Api) -> None:
    for error in (TimeoutError("x"), ConnectionResetError("x"), RecursionError("x"), OSError(28, "full")):
        api.service.broken = error
        assert (await api.ask("GET", "/v1/status")).code == "internal"


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50) + b"\r\n\r\n",
        b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n{}",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: rot13\r\n\r\n{}",
        b"GET /v1/status HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nHost: x\r\nBad Header\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
        b"GET /v1/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=range(14),
)
async def test_what_is_not_http_gets_a_json_error(api: Api, data: bytes) -> None:
    answer = Answer(await api.raw(data))

    assert (answer.status, answer.code) == (400, "invalid_request")
    assert await alive(api)


async def test_rubbish_on_the_socket_harms_nobody(api: Api) -> None:
    source = random.Random(7)
    rubbish = [source.randbytes(source.randrange(1, 5000)) + b"\r\n\r\n" for _ in range(50)]

    answers = await asyncio.gather(*(cut_off(api, data) for data in rubbish))

    assert len(answers) == 50
    assert all(b"Traceback" not in answer for answer in answers)
    assert await alive(api)


async def cut_off(api: Api, data: bytes) -> bytes:
    """Say it, leave, and hear what was said before that."""
    reader, writer = await api.connect()
    writer.write(data)
    writer.write_eof()
    try:
        return await soon(reader.read())
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1f4\r\n",
        b"PUT /v1/files/" + b"a" * 64 + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n",
    ],
)
async def test_a_body_that_is_cut_off_is_not_taken(
    api: Api, head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await cut_off(api, head + json.dumps(submission()).encode())

    assert await alive(api)
    assert not api.service.all
    assert not api.service.contents
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]


async def test_a_body_longer_than_it_says_is_no_next_request(api: Api) -> None:
    body = json.dumps(submission()).encode()
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)

    answer = Answer(await api.raw(head + body + b"and more of it\r\n\r\n"))

    assert (answer.status, answer.code) == (400, "invalid_request")
    assert not api.service.all


async def test_a_client_that_leaves_during_a_request_does_not_undo_it(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    api.service.slow = 0.05
    body = json.dumps(submission()).encode()
    _, writer = await api.connect()
    writer.write(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    await asyncio.sleep(0)
    writer.close()

    api.service.slow = 0.0
    await until(lambda: bool(api.service.all))

    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["spec", "set"]), inner),
    max_leaves=10,
)
BODIES = [(route.method, route.path) for route in TABLE if route.body is not None]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies=st.lists(JSON, min_size=1, max_size=4), which=st.sampled_from(BODIES))
def test_no_body_breaks_a_route(tmp_path: Path, bodies: list[Any], which: tuple[str, str]) -> None:
    async def history() -> None:
        service = FakeService()
        async with served(tmp_path, service) as api:
            await api.ask("POST", "/v1/jobs", submission())
            method, path = which
            for body in bodies:
                answer = await api.ask(method, path.replace("{id}", "1").replace("{uuid}", "x"), body)
                assert answer.status < 500
                assert answer.status < 400 or answer.code

    asyncio.run(history())
