"""`/metrics` alone, on a port of its own, for a Prometheus that runs as somebody else.

Off unless the settings name an address. It only reads, has figures and no text of jobs, and needs no sign-in:
whoever reaches the address may read them.
"""

from __future__ import annotations

import logging

from aiohttp import web

from trainforged.web.context import Context
from trainforged.web.prometheus import CONTENT_TYPE, scrape

log = logging.getLogger(__name__)

LARGEST_HEAD = 8190  # bytes of a line of a request, and of a header


async def serve_figures(context: Context, host: str, port: int) -> web.AppRunner | None:
    """The runner, to be cleaned up; None, with a word in the log, where the address cannot be had."""

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=await scrape(context), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application(client_max_size=1024)
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(
        app, access_log=None, max_line_size=LARGEST_HEAD, max_field_size=LARGEST_HEAD, keepalive_timeout=75
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        log.error("figures for Prometheus are not served at %s:%d: %s", host, port, error.strerror or error)
        await runner.cleanup()
        return None
    log.info("figures for Prometheus at http://%s:%d/metrics", host, runner.addresses[0][1])
    return runner
