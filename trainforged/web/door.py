"""The web port's standing, as the socket's side sees it: where it is, why it is not, and who is signed in."""

from __future__ import annotations

from trainforged.web.sessions import Sessions


class Door:
    """`address` is `host:port` while the port is served, else None; then `problem` says why not."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self.address: str | None = None
        self.problem: str | None = "the web page is off (--web, or web.listen of the settings)"
