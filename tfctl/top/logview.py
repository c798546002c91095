"""The log of one job, full screen, following what is written until one looks back; `q` leaves it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from tfctl.top.frame import Size
from tfctl.top.logtext import LogText
from tfctl.top.spans import MUTED, STRONG, WARNING, Line, Span, apart, exactly
from trainforge.client.client import ApiError, Client, NoDaemon

TAIL = 5000  # lines from before
PAUSE = 0.25  # seconds before a daemon that went away is asked again
KEYS = (("q", "back"), ("↑↓ PgUp PgDn", "look back"), ("G", "follow"), ("L", "in the pager"))


class LogRead(msgspec.Struct, frozen=True, kw_only=True):
    """From the reader of one job: `data` None begins anew; `over` says why no more will come."""

    job: int
    data: bytes | None = b""
    over: str | None = None


class LogView:
    """What was read, and which part of it is looked at. `end` None follows."""

    def __init__(self, job: int, name: str) -> None:
        self.job = job
        self._name = name
        self._text = LogText()
        self._end: int | None = None
        self._over: str | None = None

    def take(self, news: LogRead) -> None:
        if news.data is None:
            self._text = LogText()
        else:
            self._text.feed(news.data)
        self._over = news.over

    def press(self, key: str, size: Size) -> bool:
        """Move by a key; False when the view is to be left."""
        if key in ("q", "Q", "escape"):
            return False
        rows = max(1, size.height - 2)
        page = max(1, rows - 1)
        moves = {"up": -1, "k": -1, "down": 1, "j": 1, "enter": 1, "pageup": -page, "b": -page}
        moves |= {"pagedown": page, "space": page, "home": -(10**12), "g": -(10**12)}
        if key in ("G", "F", "end"):
            self._end = None
        elif key in moves:
            least = min(self._text.first + rows, self._text.end)
            end = max(least, (self._text.end if self._end is None else self._end) + moves[key])
            self._end = None if end >= self._text.end else end
        return True

    def frame(self, size: Size) -> list[Line]:
        """Exactly the size, as every frame."""
        room = max(0, size.height - 2)
        end = self._text.end if self._end is None else self._end
        shown = self._text.screen(size.width, room, end)
        lines = [exactly((Span(line),), size.width) for line in shown]
        if not lines and room:
            lines = [exactly((Span("no output yet", MUTED),), size.width)]
        lines += [exactly((), size.width)] * (room - len(lines))
        return [self._header(size.width, end), *lines, self._footer(size.width)][: size.height]

    def _header(self, width: int, end: int) -> Line:
        title = (Span(f"job {self.job} ({self._name})", STRONG), Span("  output", MUTED))
        if self._end is None:
            where = Span(self._over or "following", WARNING if self._over else "green")
        else:
            where = Span(f"line {end} of {self._text.end}", WARNING)
        return apart(title, (where,), width)

    def _footer(self, width: int) -> Line:
        out: list[Span] = []
        for key, does in KEYS:
            out += [Span(key, STRONG), Span(f" {does}   ", MUTED)]
        return exactly(out, width)


class LogReader:
    """A thread that reads the log of a job until it has ended, over restarts of the daemon.

    Once closed it ends with the next word of the job: until then it waits, at no cost.
    """

    def __init__(self, socket: Path, job: int, tell: Callable[[LogRead], None]) -> None:
        self._socket = socket
        self._job = job
        self._tell = tell
        self._closed = threading.Event()
        threading.Thread(target=self._read, name=f"log of job {job}", daemon=True).start()

    def close(self) -> None:
        self._closed.set()

    def _read(self) -> None:
        with Client(self._socket, patience=0.0) as client:
            while not self._closed.is_set():
                try:
                    self._say(data=None)
                    for chunk in client.logs(self._job, tail=TAIL, follow=True):
                        if self._closed.is_set():
                            return
                        self._say(data=chunk)
                    self._say(over=f"the end: it {client.job(self._job).why}")
                    return
                except NoDaemon:
                    self._say(over="daemon away, waiting for it")
                except ApiError as error:
                    self._say(over=str(error))
                    return
                self._closed.wait(PAUSE)

    def _say(self, data: bytes | None = b"", over: str | None = None) -> None:
        if not self._closed.is_set():
            self._tell(LogRead(job=self._job, data=data, over=over))
