"""The HTTP API as an aiohttp application over a given service. It opens no socket: see `serving`."""

from __future__ import annotations

import asyncio
import functools
import itertools
from typing import Any

from aiohttp import web

from trainforged.web import routes_files, routes_insight, routes_jobs, routes_machine, routes_output
from trainforged.web.context import CONTEXT, Context
from trainforged.web.guard import Handler, guard
from trainforged.web.limits import Limits
from trainforged.web.openapi import openapi
from trainforged.web.routing import Route
from trainforged.web.service import Service

LAST_WORDS = 0.2  # seconds that streams have to end when the daemon stops
TABLE: tuple[Route, ...] = tuple(
    itertools.chain(
        routes_jobs.routes,
        routes_output.routes,
        routes_insight.routes,
        routes_files.routes,
        routes_machine.routes,
    )
)


def make_app(service: Service, limits: Limits | None = None) -> web.Application:
    """Serve it with `serving.serve_unix`, which brings the bounds on connections."""
    app = web.Application(middlewares=[guard])
    context = Context(service, limits or Limits(), describe)
    app[CONTEXT] = context
    for route in TABLE:
        app.router.add_route(route.method, route.path, _handler(route, context))
    app.on_shutdown.append(_end_streams)
    return app


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
