"""The web port's standing, as the socket's side sees it: where it is, why it is not, and who is signed in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

from trainforged.web.port.sessions import Sessions


class Door:
    """`address` is `host:port` while the port is served, else None; then `problem` says why not."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self.address: str | None = None
        self._under_way: dict[str, set[asyncio.Task[Any]]] = {}  # by the session's token
        self.problem: str | None = "the web page is off (--web, or web.listen of the settings)"

    @contextlib.contextmanager
    def belonging(self, token: str) -> Iterator[None]:
        """What the current task answers meanwhile belongs to that session, and ends with it."""
        task = asyncio.current_task()
        assert task is not None, "requests are answered by tasks"
        mine = self._under_way.setdefault(token, set())
        mine.add(task)
        try:
            yield
        finally:
            mine.discard(task)
            if not mine:
                self._under_way.pop(token, None)

    def sign_out(self, token: str) -> None:
        """End the session, and all streams that it has open."""
        self.sessions.close(token)
        for task in self._under_way.get(token, set()) - {asyncio.current_task()}:
            task.cancel()
