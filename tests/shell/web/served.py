"""Helpers for tests of the web layer: a served fake, and HTTP spoken by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any, TypeVar

from tests.shell.fake_service import FakeService
from trainforged.web.app import make_app
from trainforged.web.limits import Limits
from trainforged.web.serving import Serving, serve_unix

T = TypeVar("T")
DEADLINE = 60.0


class Api:
    """One served application, and requests to it: a connection each, HTTP written by hand."""

    def __init__(self, service: FakeService, path: Path, serving: Serving) -> None:
        self.service = service
        self.serving = serving
        self.path = path

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.path, limit=2**24)

    async def raw(self, data: bytes) -> bytes:
        """What comes back until the daemon closes the connection."""
        reader, writer = await self.connect()
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
        try:
            async with asyncio.timeout(DEADLINE):
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def ask(self, method: str, target: str, body: Any = None, **headers: str) -> Answer:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        lines = [
            f"{method} {target} HTTP/1.1",
            "Host: x",
            "Connection: close",
            f"Content-Length: {len(data)}",
        ]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return Answer(await self.raw("\r\n".join([*lines, "", ""]).encode() + data))

    @contextlib.asynccontextmanager
    async def stream(self, target: str, **headers: str) -> AsyncIterator[asyncio.StreamReader]:
        """The lines of an event stream, without HTTP's chunks (HTTP 1.0 has none)."""
        reader, writer = await self.connect()
        extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        writer.write(f"GET {target} HTTP/1.0\r\nAccept: text/event-stream\r\n{extra}\r\n".encode())
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE)
            assert b" 200 " in head.split(b"\r\n")[0], head
            yield reader
        finally:
            writer.close()


class Answer:
    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        self.status = int(first.split()[1]) if first else 0
        self.headers = dict(line.split(": ", 1) for line in rest)

    @property
    def json(self) -> Any:
        assert self.headers["Content-Type"].startswith("application/json"), self.headers
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error's code; the answer must be an error in the agreed form, and no more."""
        error = self.json["error"]
        assert set(self.json) == {"error"}
        assert set(error) == {"code", "message", "details"}
        assert error["message"]
        assert "Traceback" not in self.body.decode()
        return str(error["code"])


@contextlib.asynccontextmanager
async def served(path: Path, service: FakeService | None = None, **limits: Any) -> AsyncIterator[Api]:
    service = service or FakeService()
    serving = await serve_unix(make_app(service, Limits(**limits)), path / "d.sock")
    try:
        yield Api(service, path / "d.sock", serving)
    finally:
        await serving.close()


async def soon(awaitable: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaitable, DEADLINE)


def submission(name: str = "one", **more: Any) -> dict[str, Any]:
    return {"spec": {"project": {"name": name}}, "request_id": name, "workdir": "/w", **more}


class Events:
    """Blocks of an event stream as (id, type, data)."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def next(self) -> tuple[int | None, str | None, Any]:
        block = await soon(self._reader.readuntil(b"\n\n"))
        fields = dict(line.split(": ", 1) for line in block.decode().strip().split("\n") if ": " in line)
        data = json.loads(fields["data"]) if "data" in fields else None
        return int(fields["id"]) if "id" in fields else None, fields.get("event"), data

    async def place(self) -> int | None:
        """The first block tells only the place."""
        id, type, data = await self.next()
        assert type is None
        assert data is None
        return id

    async def ids(self, count: int) -> list[int]:
        """Of the next events; what has no id is passed over."""
        found: list[int] = []
        while len(found) < count:
            id, _, data = await self.next()
            if id is not None and data is not None:
                found.append(id)
        return found
