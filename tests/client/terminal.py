"""A program on a terminal of its own, and what a person would see there."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.cells import cell_len

from tests.support import wait_for

SEQUENCE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])")
BEGUN = re.compile(r"\x1b(\[[?0-9;]*)?\Z")  # a sequence of which only a part has come


PATIENCE = 60.0  # seconds: a busy disk lets a program wait long for its modules

# A program of its own rather than `preexec_fn`, which may hang where there are threads.
TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Screen:
    """As much of a terminal as the view makes use of. `cells` are rows of characters."""

    def __init__(self, width: int, height: int) -> None:
        self.alternate, self.cursor, self.wraps = False, True, True
        self.styles: set[str] = set()
        self.printed = ""  # outside of the alternate screen
        self.resize(width, height)

    def resize(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._clear()

    def _clear(self) -> None:
        self.cells = [[" "] * self.width for _ in range(self.height)]
        self.x = self.y = 0

    def feed(self, text: str) -> None:
        at = 0
        for match in SEQUENCE.finditer(text):
            self._write(text[at : match.start()])
            self._control(match[1], match[2])
            at = match.end()
        self._write(text[at:])

    def _write(self, text: str) -> None:
        for character in text:
            if character in "\r\n":
                self.x, self.y = (0, self.y) if character == "\r" else (self.x, self.y + 1)
                continue
            assert character.isprintable(), f"{character!r} reached the terminal"
            if not self.alternate:
                self.printed += character
            else:
                assert self.y < self.height, f"row {self.y} of {self.height} was written to"
                assert self.x < self.width, f"{character!r} was written beyond the edge of row {self.y}"
                self.cells[self.y][self.x] = character
            self.x += cell_len(character)

    def _control(self, arguments: str, kind: str) -> None:
        match kind:
            case "H":
                row, _, column = arguments.partition(";")
                self.x, self.y = int(column or 1) - 1, int(row or 1) - 1
            case "J":
                self._clear()
            case "m":
                self.styles.add(arguments)
            case "h" | "l":
                self._mode(arguments, kind == "h")
            case _:
                raise AssertionError(f"an unexpected sequence: {arguments}{kind}")

    def _mode(self, mode: str, on: bool) -> None:
        match mode:
            case "?1049":
                self.alternate = on
                self._clear()
            case "?25":
                self.cursor = on
            case "?7":
                self.wraps = on
            case _:
                raise AssertionError(f"an unexpected mode: {mode}")

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.cells]


class Program:
    """Runs on a pseudo-terminal. Leaving the context ends it."""

    def __init__(self, argv: Sequence[str], width: int = 80, height: int = 24, **env: str) -> None:
        self.screen = Screen(width, height)
        self._rest = ""
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self.master, self._slave = pty.openpty()
        self._size(width, height)
        self.found = termios.tcgetattr(self._slave)
        environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "PAGER")}
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", TAKE_TERMINAL, *argv],
            stdin=self._slave, stdout=self._slave, stderr=self._slave,
            start_new_session=True, env=environment | {"TERM": "xterm-256color"} | env,
        )  # fmt: skip

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self._slave)

    # ---- what the person does

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def resize(self, width: int, height: int) -> None:
        self.screen.resize(width, height)
        self._size(width, height)

    def _size(self, width: int, height: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    # ---- what the person sees

    def read(self) -> None:
        """Take in what the program has written by now."""
        while select.select([self.master], [], [], 0)[0]:
            self._rest += self._decode(os.read(self.master, 65536))
        begun = BEGUN.search(self._rest)
        whole = self._rest[: begun.start()] if begun else self._rest
        self._rest = self._rest[len(whole) :]
        self.screen.feed(whole)

    def sees(self, what: str) -> list[str]:
        """The lines, as soon as one contains it."""
        return self.until(lambda lines: any(what in line for line in lines), what)

    def until(self, condition: Callable[[list[str]], bool], what: str = "something else") -> list[str]:
        """The lines, as soon as they fulfil it."""

        def shown() -> bool:
            self.read()
            return condition(self.screen.lines)

        try:
            wait_for(shown, PATIENCE)
        except AssertionError:
            shown_now = "\n".join([*self.screen.lines, self.screen.printed])
            raise AssertionError(f"waited for {what!r} ({self.process.poll()}) in\n{shown_now}") from None
        return self.screen.lines

    @property
    def as_found(self) -> bool:
        """Whether the terminal's settings are those from before."""
        return termios.tcgetattr(self._slave) == self.found

    def ends(self) -> int:
        """Its exit code; the terminal has to be as it was found."""

        def ended() -> bool:
            self.read()
            return self.process.poll() is not None

        wait_for(ended, PATIENCE, "the program to end")
        assert self.as_found
        assert not self.screen.alternate
        assert self.screen.cursor
        assert self.screen.wraps
        return self.process.returncode
