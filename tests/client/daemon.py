"""A served fake in a thread of its own, for the synchronous client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.shell.fake_service import FakeService
from trainforge.api import SubmitRequest
from trainforged.web.app import make_app
from trainforged.web.limits import Limits
from trainforged.web.live import Live
from trainforged.web.serving import Serving, serve_unix

DEADLINE = 60.0


class Daemon:
    """What the service remembers outlives `stop` and `start`, as a database would."""

    def __init__(self, path: Path, **limits: Any) -> None:
        self.path = path
        self.limits = Limits(**limits)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.serving: Serving | None = None

    def __enter__(self) -> Daemon:
        self.thread.start()
        self.service = self.do(FakeService)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def do(self, call: Callable[..., Any], *args: Any) -> Any:
        """Call it on the daemon's loop, and wait for what it gives."""

        async def on_loop() -> Any:
            result = call(*args)
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(on_loop(), self.loop).result(DEADLINE)

    def start(self) -> None:
        self.service.live = Live(len(self.service.history))
        self.serving = self.do(serve_unix, make_app(self.service, self.limits), self.path)

    def stop(self) -> None:
        serving, self.serving = self.serving, None
        if serving is not None:
            self.do(serving.close)

    def cut(self) -> None:
        """Every connection breaks in the middle of whatever it carries."""
        self.do(lambda: [connection.transport.abort() for connection in self.connections()])

    def connections(self) -> list[Any]:
        assert self.serving is not None
        server = self.serving._runner.server
        assert server is not None
        return [connection for connection in server.connections if connection.transport is not None]


def lively(path: Path) -> Daemon:
    """One whose streams have something to tell many times a second."""
    return Daemon(path, heartbeat=0.05, news=0.02)


def request(name: str) -> SubmitRequest:
    return SubmitRequest(spec={"project": {"name": name}}, request_id=name, workdir="/w")
