"""The HTTP API as an aiohttp application over a given service. It opens no socket: see `serving`."""

from __future__ import annotations

import asyncio
import functools
import itertools
from typing import Any

from aiohttp import web

from trainforged.web.context import CONTEXT, Context
from trainforged.web.guard import Handler, guard
from trainforged.web.limits import Limits
from trainforged.web.openapi import openapi
from trainforged.web.port.door import Door
from trainforged.web.port.listening import make_port_app
from trainforged.web.port.page_files import PageFiles
from trainforged.web.routes import files, insight, jobs, machine, output, sign_in
from trainforged.web.routing import Route
from trainforged.web.service import Service

LAST_WORDS = 0.2  # seconds that streams have to end when the daemon stops
PARTS = (jobs, output, insight, files, machine, sign_in)
TABLE: tuple[Route, ...] = tuple(itertools.chain.from_iterable(part.routes for part in PARTS))


def make_app(service: Service, limits: Limits | None = None, door: Door | None = None) -> web.Application:
    """Serve it with `serving.serve_unix`, which brings the bounds on connections."""
    app = web.Application(middlewares=[guard])
    context = Context(service, limits or Limits(), describe, door)
    app[CONTEXT] = context
    for method, path, handler in _handlers(context):
        app.router.add_route(method, path, handler)
    app.on_shutdown.append(_end_streams)
    return app


def make_web_app(app: web.Application, page: PageFiles | None = None) -> web.Application:
    """What the web port serves beside the socket's `app`, whose bounds it shares."""
    web_app = make_port_app(app[CONTEXT], _handlers(app[CONTEXT]), page)
    web_app.on_shutdown.append(_end_streams)
    return web_app


def _handlers(context: Context) -> list[tuple[str, str, Handler]]:
    return [(route.method, route.path, _handler(route, context)) for route in TABLE]


@functools.cache
def describe() -> dict[str, Any]:
    """The API's description; made when it is first asked for."""
    return openapi(TABLE)


def _handler(route: Route, context: Context) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await route.answer_to(request, context)

    return handle


async def _end_streams(app: web.Application) -> None:
    """Event streams end by themselves, once their reader has taken what was written; the rest is cut off."""
    context = app[CONTEXT]
    context.service.live.close()
    if context.streams:
        _, open_still = await asyncio.wait(context.streams, timeout=LAST_WORDS)
        for task in open_still:
            task.cancel()
