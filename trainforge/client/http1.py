"""The little of HTTP/1.1 that a client and its own daemon need, over a connected socket.

Why not http.client: it brings email and ssl along, which costs a command a third of the time it
has. What is left out: everything that this daemon does not say (folded headers, trailers,
compression, TLS). Whatever goes wrong on the way is one of LOST.
"""

from __future__ import annotations

import contextlib
import io
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, cast

Body = bytes | Iterable[bytes]
PIECE = 64 * 1024  # bytes read at a time
LONGEST_LINE = 64 * 1024
MOST_HEADERS = 100
ENDLESS = -1


class CutOff(ConnectionError):
    """The connection ended before the answer did, or what came is no answer."""


LOST = (CutOff, TimeoutError)


class Head(NamedTuple):
    """An answer's beginning; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    keep: bool  # the connection can be used again once the body is read


class Connection:
    """One request at a time: `send`, `receive`, then `read` until it gives b""."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._file = cast(io.BufferedReader, sock.makefile("rb", PIECE))
        self._left = 0  # bytes of the body, or of its current chunk, that are not read yet
        self._chunked = False

    def send(self, method: str, target: str, headers: Mapping[str, str], body: Body | None) -> None:
        """A body that is not bytes needs a Content-Length among the headers, and must have it."""
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if any(not line.isprintable() for line in lines) or " " in target:
            raise ValueError(f"not to be sent as a request: {target!r}")
        if isinstance(body, bytes):
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join([*lines, "", ""]).encode("ascii")
        if body is None or isinstance(body, bytes):
            self._send(head + (body or b""))
            return
        self._send(head)
        for piece in body:  # what goes wrong in making it is not ours to translate
            self._send(piece)

    def receive(self) -> Head:
        """The answer's beginning."""
        version, status = self._status()
        headers = self._headers()
        while status == 100:
            version, status = self._status()
            headers = self._headers()
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length", "")
        if self._chunked or status == 204:
            self._left = 0
        else:
            self._left = int(length) if length.isdecimal() else ENDLESS
        keep = version == "HTTP/1.1" and self._left != ENDLESS
        return Head(status, headers, keep and headers.get("connection", "").lower() != "close")

    def read(self) -> bytes:
        """What has come of the body, at least a byte, waiting for it; b"" at its end."""
        if self._left == 0 and self._chunked:
            self._next_chunk()
        if self._left == 0:
            return b""
        with _translated():
            data = self._file.read1(PIECE if self._left == ENDLESS else min(PIECE, self._left))
        if self._left == ENDLESS:
            return data
        if not data:
            raise CutOff("the answer was cut off")
        self._left -= len(data)
        if self._left == 0 and self._chunked:
            self._line()  # the end of the chunk's line
        return data

    def read_all(self) -> bytes:
        """The rest of the body."""
        return b"".join(iter(self.read, b""))

    def close(self) -> None:
        self._file.close()
        self.sock.close()

    def _send(self, data: bytes) -> None:
        with _translated():
            self.sock.sendall(data)

    def _next_chunk(self) -> None:
        size, _, _ = self._line().partition(";")
        try:
            self._left = int(size, 16)
        except ValueError:
            raise CutOff(f"expected the size of a chunk, found {size[:40]!r}") from None
        if self._left == 0:
            self._line()
            self._chunked = False

    def _status(self) -> tuple[str, int]:
        line = self._line()
        version, _, rest = line.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
            raise CutOff(f"expected an HTTP answer, found {line[:40]!r}")
        return version, int(rest[:3])

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for _ in range(MOST_HEADERS):
            line = self._line()
            if not line:
                return headers
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        raise CutOff("more headers than expected")

    def _line(self) -> str:
        with _translated():
            line = self._file.readline(LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise CutOff("the answer was cut off")
        return line.rstrip(b"\r\n").decode("latin-1")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise
    except OSError as error:
        raise CutOff(error.strerror or str(error)) from error
