"""A job's output as lines for the screen: what a terminal would have left of them. Pure.

Escape sequences are dropped, a carriage return begins the line anew (progress bars), and of very
many lines the newest are kept.
"""

from __future__ import annotations

import codecs
import re
from collections import deque

from rich.cells import cell_len, chop_cells

from tfctl.top.spans import clean

KEPT = 20_000  # lines
LONGEST = 10_000  # characters of a line that does not end
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")


class LogText:
    """Lines are numbered from 0 and keep their number when older ones are dropped."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=KEPT)
        self._dropped = 0
        self._open = ""  # the line that has not ended yet
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def feed(self, data: bytes) -> None:
        *ended, rest = (self._open + self._decode(data)).split("\n")
        for line in ended:
            self._dropped += len(self._lines) == KEPT
            self._lines.append(_settled(line))
        self._open = rest if len(rest) <= LONGEST else _settled(rest)[-LONGEST:]

    @property
    def first(self) -> int:
        return self._dropped

    @property
    def end(self) -> int:
        """One above the last line, of which a line that has not ended yet is one."""
        return self._dropped + len(self._lines) + (1 if self._open else 0)

    def line(self, number: int) -> str:
        place = number - self._dropped
        return self._lines[place] if place < len(self._lines) else _settled(self._open)

    def screen(self, width: int, rows: int, end: int) -> list[str]:
        """The rows that end with line `end` - 1, folded at `width`."""
        out: list[str] = []
        number = min(end, self.end)
        while number > self._dropped and len(out) < rows:
            number -= 1
            out = folded(self.line(number), width) + out
        return out[-rows:] if rows else []


def folded(line: str, width: int) -> list[str]:
    """The line in pieces of at most `width` cells; at least one."""
    if cell_len(line) <= width:
        return [line]
    return chop_cells(line, max(2, width))


def _settled(line: str) -> str:
    parts = ESCAPES.sub("", line).rstrip("\r").rsplit("\r", 1)
    return clean(parts[-1].expandtabs())
