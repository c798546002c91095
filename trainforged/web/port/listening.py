"""The web port: the same API as on the socket, behind `gate`, and the page.

Where the port is taken the daemon goes on without it, says so, and looks again now and then.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import os
from collections.abc import Iterable

from aiohttp import web

from trainforged.web.context import CONTEXT, Context
from trainforged.web.guard import Handler, guard
from trainforged.web.port import pages
from trainforged.web.port.door import Door
from trainforged.web.port.gate import SIGN_IN, add_headers, cookie_name, door_of, gate, is_api
from trainforged.web.port.page_files import PageFiles
from trainforged.web.port.sessions import SESSION_SECONDS, TooManyTries
from trainforged.web.serving import Serving, serve_tcp

log = logging.getLogger(__name__)

TRY_AGAIN = 30.0  # seconds


def make_port_app(
    context: Context, routes: Iterable[tuple[str, str, Handler]], files: PageFiles | None = None
) -> web.Application:
    """`routes` of the API as (method, path, handler)."""
    app = web.Application(middlewares=[gate, guard])
    app[CONTEXT] = context
    files = files or PageFiles()

    async def page(request: web.Request) -> web.StreamResponse:
        if is_api(request.path):
            raise web.HTTPNotFound
        headers = request.headers
        return files.answer(
            request.path, headers.get("Accept-Encoding", ""), headers.get("If-None-Match", "")
        )

    for method, path, handler in routes:
        app.router.add_route(method, path, handler)
    app.router.add_route("GET", SIGN_IN, _sign_in)
    app.router.add_route("GET", "/{page:.*}", page)
    app.on_response_prepare.append(add_headers)
    return app


async def _sign_in(request: web.Request) -> web.StreamResponse:
    """The cookie for a code. The browser is sent on, so that the code stays in no history."""
    code = request.query.get("code")
    if code is None:
        return pages.signed_out()
    try:
        token = door_of(request).sessions.open(code)
    except TooManyTries as tries:
        return pages.too_many_tries(math.ceil(tries.wait))
    if token is None:
        return pages.wrong_code()
    response = web.Response(status=303, headers={"Location": "/"})
    response.set_cookie(
        cookie_name(request), token, max_age=int(SESSION_SECONDS), path="/", httponly=True, samesite="Strict"
    )
    return response


class WebPort:
    """Serves `app` at `address` (host, port) while `run` runs."""

    def __init__(self, app: web.Application, address: tuple[str, int], door: Door) -> None:
        self._app = app
        self._host, self._port = address
        self._door = door
        self._serving: Serving | None = None

    async def run(self) -> None:
        """Until it is served; who holds the port may let it go."""
        for number in itertools.count():
            try:
                self._serving = await serve_tcp(self._app, self._host, self._port)
            except OSError as error:
                why = os.strerror(error.errno) if error.errno else str(error)
                self._door.problem = (
                    f"{self._host}:{self._port} cannot be listened on: {why} (--web names another)"
                )
                if not number:
                    log.error("there is no web page: %s; the daemon goes on without it", self._door.problem)
                await asyncio.sleep(TRY_AGAIN)
                continue
            self._door.address, self._door.problem = self._serving.address, None
            log.info("the web page is at http://%s/ (tfctl dashboard)", self._door.address)
            return

    async def close(self) -> None:
        if self._serving is not None:
            await self._serving.close()
