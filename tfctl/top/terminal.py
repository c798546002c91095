"""The terminal while the view has it: alternate screen, no cursor, single keys; and given back whole.

Given back means as it was found: at the end, on an error, on Ctrl-C and SIGTERM, and while the view is
stopped with Ctrl-Z.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

from rich.console import Console

from tfctl.output import coloured, lenient, styled
from tfctl.top.frame import Size
from tfctl.top.keys import decode
from tfctl.top.painter import Painter
from tfctl.top.spans import Line

ESCAPE_PATIENCE = 0.05  # seconds within which the rest of a key's sequence comes
ENDING = (signal.SIGTERM, signal.SIGHUP)
HANDLED = (*ENDING, signal.SIGTSTP, signal.SIGWINCH)
WRAP_OFF, WRAP_ON = "\x1b[?7l", "\x1b[?7h"  # a character that is wider than we think moves nothing
UNKNOWN_SIZE = Size(80, 24)


class Ended(BaseException):
    """A signal asked the program to end; `code` is the exit code that says so."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Terminal:
    """Standard input and output, both terminals. Signals write to `alarm`, a pipe that wakes `wait`."""

    def __init__(self, alarm: int) -> None:
        self.console = Console(file=styled(), highlight=False, no_color=not coloured())
        self.painter = Painter(self.console)
        self._alarm = alarm
        self._in, self._out = sys.stdin.fileno(), sys.stdout.fileno()
        self._found = termios.tcgetattr(self._in)
        self._rest = b""
        self._stop_asked = False
        self._before: dict[int, Any] = {}
        self._alarm_before = -1

    def __enter__(self) -> Terminal:
        lenient()
        self._alarm_before = signal.set_wakeup_fd(self._alarm, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._signalled) for number in HANDLED}
        self._take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *HANDLED})
        try:
            self._give_back()
            for number, handler in self._before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._alarm_before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    # ---- drawing and keys

    @property
    def size(self) -> Size:
        found = os.get_terminal_size(self._out)
        return Size(*found) if found.columns and found.lines else UNKNOWN_SIZE

    def draw(self, lines: list[Line], width: int) -> None:
        self.painter.draw(lines, width)

    def wait(self, other: int, seconds: float) -> list[str]:
        """The keys that were pressed; none when `other` became readable or the time is over first."""
        within = min(seconds, ESCAPE_PATIENCE) if self._rest else seconds
        ready, _, _ = select.select([self._in, other], [], [], max(0.0, within))
        if self._stop_asked:
            self._stop()
        if self._in in ready:
            data = os.read(self._in, 4096)
            if not data:  # the terminal is gone
                raise Ended(128 + signal.SIGHUP)
            keys, self._rest = decode(self._rest + data)
            return keys
        if self._rest and not ready:
            keys, self._rest = decode(self._rest, whole=True)
            return keys
        return []

    # ---- taking it and giving it back

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """The terminal as it was found, for another program, whose Ctrl-C and Ctrl-Z are its own."""
        self._give_back()
        before = {
            signal.SIGINT: signal.signal(signal.SIGINT, lambda number, frame: None),
            signal.SIGTSTP: signal.signal(signal.SIGTSTP, signal.SIG_DFL),
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._take()

    def _take(self) -> None:
        tty.setcbreak(self._in)
        self.console.set_alt_screen(True)
        self.console.show_cursor(False)
        self._write(WRAP_OFF)
        self.painter.forget()

    def _give_back(self) -> None:
        with contextlib.suppress(OSError, termios.error):  # a terminal that is gone needs nothing
            self._write(WRAP_ON)
            self.console.show_cursor(True)
            self.console.set_alt_screen(False)
            termios.tcsetattr(self._in, termios.TCSADRAIN, self._found)

    def _write(self, text: str) -> None:
        self.console.file.write(text)
        self.console.file.flush()

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if number in ENDING:
            raise Ended(128 + number)
        self._stop_asked = self._stop_asked or number == signal.SIGTSTP

    def _stop(self) -> None:
        """Ctrl-Z: stop with the shell's screen, and take the screen again when continued."""
        self._stop_asked = False
        self._give_back()
        mine = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, mine)
        self._take()
