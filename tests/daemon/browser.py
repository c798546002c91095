"""HTTP spoken by hand to the web port: as a browser would, or as nobody should."""

from __future__ import annotations

import json
import socket
from typing import Any

from tests.daemon.real import DEADLINE, RealDaemon, wait_until


class Answer:
    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1]) if first else 0
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}

    @property
    def json(self) -> Any:
        assert self.headers["content-type"].startswith("application/json"), self.headers
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])


class Browser:
    """One browser profile: it keeps the cookie that it was given."""

    def __init__(self, daemon: RealDaemon) -> None:
        self.daemon = daemon
        address = wait_until(lambda: daemon.get("/v1/status")["web"], "the web port")
        self.port = int(address.rpartition(":")[2])
        self.cookie: str | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def code(self) -> str:
        """A fresh one, over the socket."""
        return str(self.daemon.post("/v1/sign-in")["code"])

    def sign_in(self) -> Browser:
        answer = self.ask("GET", f"/sign-in?code={self.code()}")
        assert (answer.status, answer.headers["location"]) == (303, "/"), answer.body
        self.cookie = answer.headers["set-cookie"].partition(";")[0]
        return self

    def ask(self, method: str, target: str, body: bytes = b"", **headers: str | None) -> Answer:
        """`None` leaves a header out that the page would send."""
        sent: dict[str, str | None] = {"Host": self.host, "Connection": "close", "Cookie": self.cookie}
        if method not in ("GET", "HEAD"):
            sent |= {"Origin": f"http://{self.host}", "Content-Type": "application/json"}
            sent["Content-Length"] = str(len(body))
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{name}: {value}" for name, value in sent.items() if value is not None]
        return self.raw("\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode() + body)

    def raw(self, data: bytes) -> Answer:
        with socket.create_connection(("127.0.0.1", self.port), DEADLINE) as sock:
            try:
                sock.sendall(data)
                return Answer(b"".join(iter(lambda: sock.recv(65536), b"")))
            except ConnectionError:  # it would not even listen to the end
                return Answer(b"HTTP/1.1 400 \r\n\r\n")

    def events(self) -> socket.socket:
        """An event stream that has begun."""
        sock = socket.create_connection(("127.0.0.1", self.port), DEADLINE)
        sock.sendall(
            f"GET /v1/events HTTP/1.1\r\nHost: {self.host}\r\nCookie: {self.cookie}\r\n"
            "Accept: text/event-stream\r\n\r\n".encode()
        )
        return sock
