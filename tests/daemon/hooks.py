"""A real HTTP server that notices are posted to."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support import free_port


class Hooks:
    """Keeps what it is sent. `answers` are the statuses of the next posts; then 204. Its port is its
    own, also after it was closed."""

    def __init__(self, port: int | None = None) -> None:
        self.got: list[tuple[str, Any]] = []
        self.tries = 0
        self.answers: list[int] = []
        self.headers: dict[str, str] = {}
        hooks = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hooks.tries += 1
                status = hooks.answers.pop(0) if hooks.answers else 204
                if status < 300:
                    hooks.got.append((self.path, content))
                self.send_response(status)
                for name, value in hooks.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port or free_port()), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def address(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
