"""How a route is declared: once, by a handler whose annotations say what it takes and gives.

    @routes.add("POST", "/v1/jobs/{id}/cancel", "Stop a job")
    async def cancel(call: Call[None, CancelRequest]) -> JobView: ...

The types of query and body are decoded before the handler runs, and `openapi` documents the same
types; a table of routes cannot say one thing and do another.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Generic, TypeVar

import msgspec
from aiohttp import HttpVersion11, web

from trainforged.web.at_once import Question
from trainforged.web.context import Context
from trainforged.web.decoding import QueryDecoder, decode_body
from trainforged.web.errors import no_such_job
from trainforged.web.limits import body_chunks
from trainforged.web.service import Service

Q = TypeVar("Q")
B = TypeVar("B")
LARGEST_ID = 2**63 - 1
QUESTION: web.RequestKey[Question] = web.RequestKey("question")


class Call(Generic[Q, B]):
    """One request on its way: what was asked, decoded."""

    __slots__ = ("body", "context", "query", "request")

    def __init__(self, request: web.Request, context: Context, query: Q, body: B) -> None:
        self.request = request
        self.context = context
        self.query = query
        self.body = body

    @property
    def service(self) -> Service:
        return self.context.service

    @property
    def job(self) -> int:
        """The job's id in the path."""
        text = self.request.match_info["id"]
        if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= LARGEST_ID):
            raise no_such_job(text[:40])
        return int(text)


Handler = Callable[[Call[Any, Any]], Awaitable[Any]]
Asked = Callable[[Call[Any, Any]], Question | None]
"""What a call asks of memory, if it can be answered from there; it keeps nothing of the request itself."""
H = TypeVar("H", bound=Callable[..., Awaitable[Any]])


class Route:
    """A route as declared. `query`, `body` and `answer` are types, None where there is none."""

    def __init__(self, method: str, path: str, summary: str, handler: Handler) -> None:
        hints = typing.get_type_hints(handler)
        query, body = typing.get_args(hints["call"])
        self.method = method
        self.path = path
        self.summary = summary
        self.handler = handler
        self.query = None if query is types.NoneType else query
        self.body = None if body is types.NoneType else body
        self.answer = _without_streams(hints["return"])
        self.status = 200
        self.content: tuple[str, ...] = ()  # content types beside JSON
        self.takes_file = False
        self.at_once: Asked | None = None
        self._query = QueryDecoder(self.query) if self.query else None
        self._body = msgspec.json.Decoder(self.body) if self.body else None

    @property
    def name(self) -> str:
        """The handler's name, unique in the table."""
        return self.handler.__name__

    async def answer_to(self, request: web.Request, context: Context) -> web.StreamResponse:
        """Decode, ask the handler, encode."""
        query = self._query.decode(request.query) if self._query else None
        body = await self._decoded(request, context) if self._body else None
        call = Call[Any, Any](request, context, query, body)
        found = await self.handler(call)
        again = request.keep_alive and request.version == HttpVersion11
        if again and self.at_once is not None and (question := self.at_once(call)) is not None:
            request[QUESTION] = question
        if isinstance(found, web.StreamResponse):
            return found
        if found is None:
            return web.Response(status=self.status)
        return json_response(found, self.status)

    async def _decoded(self, request: web.Request, context: Context) -> Any:
        assert self._body is not None
        async with context.room_for(request):
            chunks = [c async for c in body_chunks(request, context.limits, context.limits.json_body)]
            return decode_body(self._body, b"".join(chunks))


class Routes:
    """A table of routes, in order of declaration."""

    def __init__(self) -> None:
        self._routes: list[Route] = []

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def add(
        self,
        method: str,
        path: str,
        summary: str,
        *,
        status: int = 200,
        content: tuple[str, ...] = (),
        takes_file: bool = False,
        at_once: Asked | None = None,
    ) -> Callable[[H], H]:
        """Declare the handler below. `content` names what it answers when not JSON; with
        `takes_file` it reads the body itself, as bytes. `at_once` is for what memory may answer."""

        def declare(handler: H) -> H:
            route = Route(method, path, summary, handler)
            route.status, route.content, route.takes_file = status, content, takes_file
            route.at_once = at_once
            self._routes.append(route)
            return handler

        return declare


def json_response(answer: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), status=status, content_type="application/json")


def _without_streams(answer: Any) -> Any:
    """The JSON part of a return annotation, None where there is none."""
    parts = typing.get_args(answer) if isinstance(answer, types.UnionType) else (answer,)
    left = [p for p in parts if not (isinstance(p, type) and issubclass(p, web.StreamResponse))]
    if not left:
        return None
    whole = left[0]
    for part in left[1:]:
        whole = whole | part
    return whole
