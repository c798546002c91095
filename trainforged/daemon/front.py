"""Where the daemon can be talked to: its socket, and the port of the page."""

from __future__ import annotations

import contextlib
import logging
import os
import socket

import msgspec

from trainforged.config import Config
from trainforged.daemon.options import Options
from trainforged.daemon.tasks import Tasks
from trainforged.execution import durable
from trainforged.web.app import make_app, make_web_app
from trainforged.web.context import CONTEXT
from trainforged.web.limits import Limits
from trainforged.web.port.door import Door
from trainforged.web.port.listening import WebPort
from trainforged.web.port.sessions import Sessions
from trainforged.web.scraping import serve_figures
from trainforged.web.service import Service
from trainforged.web.serving import serve_unix

log = logging.getLogger("trainforged")

SESSIONS = "sessions.json"  # in the state folder: hashes, and until when


class Front:
    """`open` once the daemon can answer."""

    def __init__(self, options: Options, settings: Config) -> None:
        self._options = options
        self._settings = settings
        self._stored = options.state_dir / SESSIONS
        self.door = Door(Sessions(self._load(), self._save))

    async def open(
        self,
        service: Service,
        handed_over: socket.socket | None,
        tasks: Tasks,
        stack: contextlib.AsyncExitStack,
    ) -> None:
        """Raises `SocketTaken` and OSError for the socket; a port that is taken is only said."""
        app = make_app(service, Limits(file=int(self._settings.limits.file)), self.door)
        serving = await serve_unix(app, self._options.socket, sock=handed_over)
        stack.push_async_callback(serving.close)
        tasks.keep(serving.keep)
        place = os.fsencode(self._options.socket.absolute())
        durable.replace(f"{self._options.state_dir}/socket", place)
        with contextlib.suppress(OSError):  # for lack of room: who starts the next daemon gives its options
            durable.replace(f"{self._options.state_dir}/options", msgspec.json.encode(self._options.words()))
        address = self._settings.web.address(self._options.web)
        if address is not None:
            port = WebPort(make_web_app(app), address, self.door)
            stack.push_async_callback(port.close)
            tasks.keep(port.run)

        if (figures := self._settings.prometheus.address()) is not None:
            runner = await serve_figures(app[CONTEXT], *figures)
            if runner is not None:
                stack.push_async_callback(runner.cleanup)

    def _load(self) -> bytes:
        try:
            return self._stored.read_bytes()
        except OSError:
            return b""

    def _save(self, data: bytes) -> None:
        try:
            durable.replace(str(self._stored), data)
        except OSError as error:
            log.error("who is signed in is not kept over a restart: %s", error)
