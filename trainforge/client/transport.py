"""Requests and answers over the Unix socket: one kept connection, made again when it was lost.

A request that is lost on the way is sent again where that does no harm; whether it does, the
caller says (`again`). A daemon that has answered before is waited for, since it may be restarting;
where nobody answers in the first place, `NoDaemon` is raised at once.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from trainforge.client.http1 import LOST, Body, Connection, CutOff
from trainforge.client.sockets import NoDaemon, connect, peer

PAUSE = 0.02  # seconds between two tries
SILENT = 3.0  # seconds


class Request(NamedTuple):
    """`body` makes the body anew for each try; `length` is its size where it is not bytes. `timeout`:
    seconds until its answer, where those of the transport are too few."""

    method: str
    target: str
    body: Callable[[], Body | None] = lambda: None
    length: int | None = None
    again: bool = True
    timeout: float | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.length is None else {"Content-Length": str(self.length)}


class Answer(NamedTuple):
    status: int
    body: bytes
    retry_after: float | None


class Transport:
    """Not to be shared between threads. `timeout` bounds each wait for the daemon; `patience` is
    how long a daemon that has answered before may be away. `on_silence` is called with the daemon's pid
    when an answer has not begun after `SILENT` seconds; it is waited for all the same."""

    def __init__(
        self,
        path: Path | None,
        timeout: float,
        patience: float,
        on_silence: Callable[[int], None] | None = None,
    ) -> None:
        self.path = path  # once a daemon was found, it stays with that one
        self.timeout = timeout
        self.patience = patience
        self.on_silence = on_silence
        self._peer: int | None = None
        self._met = False
        self._kept: Connection | None = None

    def ask(self, request: Request) -> Answer:
        """The daemon's answer, whatever its status. Raises NoDaemon."""
        deadline = time.monotonic() + self.timeout
        while True:
            answer = self._ask_until_answered(request)
            wait = answer.retry_after
            if answer.status != 429 or wait is None or time.monotonic() + wait > deadline:
                return answer
            time.sleep(wait)

    def open(self, target: str, headers: dict[str, str], timeout: float | None) -> Stream:
        """Begin an answer that goes on, over a connection of its own. Raises NoDaemon.

        `timeout` is the longest silence in it.
        """
        connection = self._connect()
        try:
            connection.send("GET", target, headers, None)
            self._listen(connection)
            status = connection.receive().status
            connection.sock.settimeout(timeout)
        except LOST as error:
            connection.close()
            raise self.lost(error) from error
        return Stream(connection, status)

    def close(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    def lost(self, error: Exception, timeout: float | None = None) -> NoDaemon:
        """What to raise when the daemon went away."""
        assert self.path is not None
        if isinstance(error, TimeoutError):
            seconds = timeout or self.timeout
            return NoDaemon({self.path: f"it has not answered within {seconds:g} s"}, self._peer)
        return NoDaemon({self.path: "it went away before it had answered"})

    def _ask_until_answered(self, request: Request) -> Answer:
        """Try again for as long as `patience` allows."""
        give_up: float | None = None
        while True:
            try:
                return self._ask_once(request)
            except NoDaemon:
                if not self._met or (give_up is not None and time.monotonic() > give_up):
                    raise
            except LOST as error:
                late = give_up is not None and time.monotonic() > give_up
                if late or isinstance(error, TimeoutError) or not request.again:
                    raise self.lost(error, request.timeout) from error
            give_up = give_up or time.monotonic() + self.patience
            time.sleep(PAUSE)

    def _ask_once(self, request: Request) -> Answer:
        connection = self._connection()
        try:
            with contextlib.suppress(CutOff):
                connection.send(request.method, request.target, request.headers, request.body())
            # An answer may be there even if not all was taken: a refusal.
            self._listen(connection, request.timeout)
            head = connection.receive()
            body = connection.read_all()
        except BaseException:
            self.close()
            raise
        if not head.keep:
            self.close()
        wait = head.headers.get("retry-after", "")
        return Answer(head.status, body, float(wait) if wait.isdecimal() else None)

    def _connection(self) -> Connection:
        """The kept connection, unless the daemon has closed it in the meantime."""
        if self._kept is None or _is_closed(self._kept.sock):
            self.close()
            self._kept = self._connect()
        return self._kept

    def _connect(self) -> Connection:
        sock, self.path = connect(self.path, self.timeout)
        self._met = True
        self._peer = peer(sock)
        return Connection(sock)

    def _listen(self, connection: Connection, timeout: float | None = None) -> None:
        """Say so where nothing is heard for a while, of a daemon that hangs or has much to do; what is left
        of the time is the socket's."""
        left = timeout or self.timeout
        told = self.on_silence
        if told and self._peer and left > SILENT and not _readable(connection.sock, SILENT):
            told(self._peer)
            left -= SILENT
        connection.sock.settimeout(left)


def _is_closed(sock: socket.socket) -> bool:
    """Between requests nothing is to be read, unless it is the end."""
    return _readable(sock, 0)


def _readable(sock: socket.socket, seconds: float) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


class Stream:
    """An answer that goes on. The reader closes it; any other thread may interrupt it."""

    def __init__(self, connection: Connection, status: int) -> None:
        self.status = status
        self._connection = connection

    def read(self) -> bytes:
        """What has come, at least a byte; b"" at the end. Raises one of LOST when it was cut off."""
        return self._connection.read()

    def read_all(self) -> bytes:
        return self._connection.read_all()

    def interrupt(self) -> None:
        """Wake the reader; it then finds the stream cut off."""
        with contextlib.suppress(OSError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._connection.close()
