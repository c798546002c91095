"""The loop: waits for keys and messages, and draws when something changed or a second has passed."""

from __future__ import annotations

import datetime
import time
from pathlib import Path

from tfctl.top import pager
from tfctl.top.control import Change, Effect, OpenLog, Quit, Rows, View, press, rows, settle
from tfctl.top.frame import Now, Size, frame
from tfctl.top.inbox import Inbox
from tfctl.top.known import Known, Looked, Message
from tfctl.top.layout import WIDE
from tfctl.top.logview import LogRead, LogReader, LogView
from tfctl.top.panes.curves import names
from tfctl.top.source import Source
from tfctl.top.spans import Line
from tfctl.top.terminal import Ended, Terminal

LONGEST = 1.0  # seconds between two frames
SHORTEST = 0.5  # seconds between two frames that nobody asked for by a key
FIRST = 0.25  # seconds that the first frame waits for the daemon's answers
AHEAD = 20  # waiting jobs that are asked for beyond the chosen one


def top(socket: Path, inbox: Inbox[Message | LogRead], source: Source) -> int:
    """Show the view until it is left; the exit code."""
    try:
        with Terminal(inbox.alarm) as terminal:
            App(terminal, source, inbox, socket).run()
    except KeyboardInterrupt:
        return 0
    except Ended as ended:
        return ended.code
    finally:
        source.close()
    return 0


class App:
    """Owns what is shown; `run` returns when the person leaves."""

    def __init__(
        self, terminal: Terminal, source: Source, inbox: Inbox[Message | LogRead], socket: Path
    ) -> None:
        self._terminal = terminal
        self._source = source
        self._inbox = inbox
        self._socket = socket
        self._known = Known()
        self._view = View()
        self._log: tuple[LogView, LogReader] | None = None
        self._size = terminal.size
        self._left = False
        self._news = False  # something came that the screen does not show yet

    def run(self) -> None:
        self._press(self._await_answers())
        drawn, pressed = 0.0, True
        while not self._left:
            now = time.monotonic()
            due = drawn + (SHORTEST if self._news else LONGEST)
            if pressed or now >= due:
                self._draw()
                drawn, due = now, now + LONGEST
            keys = self._terminal.wait(self._inbox.fd, due - now)
            self._read()
            pressed = self._press(keys) or self._terminal.size != self._size

    # ---- what comes in

    def _await_answers(self) -> list[str]:
        """Until there is something to show, or it takes long; what was typed meanwhile."""
        typed: list[str] = []
        deadline = time.monotonic() + FIRST
        while (self._known.gpus is None or self._known.looked is None) and time.monotonic() < deadline:
            typed += self._terminal.wait(self._inbox.fd, deadline - time.monotonic())
            self._read()
        return typed

    def _read(self) -> None:
        for message in self._inbox.drain():
            self._news = True
            if isinstance(message, LogRead):
                if self._log is not None and message.job == self._log[0].job:
                    self._log[0].take(message)
            elif isinstance(message, Looked):
                before = self._rows()
                self._known.take(message)
                self._view = settle(self._view, before, self._rows())
            else:
                self._known.take(message)

    def _rows(self) -> Rows:
        return rows(self._known, self._view.order, datetime.datetime.now(datetime.UTC))

    # ---- what is shown

    def _draw(self) -> None:
        self._news = False
        self._size = self._terminal.size
        self._terminal.draw(self._lines(self._size), self._size.width)

    def _lines(self, size: Size) -> list[Line]:
        if self._log is not None:
            return self._log[0].frame(size)
        now = Now(time.monotonic(), datetime.datetime.now(datetime.UTC))
        self._want_curves(size)
        return frame(self._known, self._view, size, now)

    def _want_curves(self, size: Size) -> None:
        """Ask for the curves of the chosen job, where the screen has room for them."""
        job = self._rows().selected(self._view)
        series = names(job) if size.width >= WIDE else ()
        wanted = (job.id, series) if job is not None and series else None
        if wanted != self._source.curves:
            self._source.curves = wanted
            self._source.look()

    # ---- what is asked for

    def _press(self, keys: list[str]) -> bool:
        """Whether anything was pressed."""
        for key in keys:
            if self._log is not None:
                self._press_in_log(key, *self._log)
            else:
                chosen = self._rows()
                self._view, effect = press(self._view, key, chosen)
                self._perform(effect)
                self._reach(len(chosen.waiting))
        return bool(keys)

    def _press_in_log(self, key: str, log: LogView, reader: LogReader) -> None:
        if key == "L":
            self._show_in_pager(log.job)
        elif not log.press(key, self._size):
            reader.close()
            self._log = None

    def _perform(self, effect: Effect | None) -> None:
        match effect:
            case Quit():
                self._left = True
            case Change():
                self._source.ask(effect)
            case OpenLog(job=job, pager=wanted):
                if not (wanted and self._show_in_pager(job)):
                    name = self._known.jobs[job].name
                    self._log = LogView(job, name), LogReader(self._socket, job, self._inbox.put)

    def _show_in_pager(self, job: int) -> bool:
        """Whether there is one."""
        command = pager.pager()
        if command is None:
            return False
        with self._terminal.suspended():
            pager.show(command, self._socket, job)
        return True

    def _reach(self, waiting: int) -> None:
        """Ask for more of the queue when the chosen job comes near the end of what is known of it."""
        selected = self._view.selected
        looked = self._known.looked
        if looked is None or selected is None or waiting >= self._known.waiting_in_all:
            return
        place = next((n for n, job in enumerate(looked.waiting) if job.id == selected), 0)
        if place + AHEAD > self._source.queue:
            self._source.queue = min(1000, self._source.queue + 5 * AHEAD)
            self._source.look()
