"""Puts lines on the terminal with Rich, and of a frame only those that changed since the last one."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.control import Control
from rich.segment import Segment, Segments

from tfctl.top.spans import Line


class Painter:
    """Draws over the whole screen of `console`, which is the alternate one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._drawn: list[Line] = []
        self._width = 0

    def forget(self) -> None:
        """The screen holds something else now: the next frame is drawn whole."""
        self._drawn = []

    def draw(self, lines: Sequence[Line], width: int) -> int:
        """Bring the screen to these lines, in one write; how many were drawn."""
        segments: list[Segment] = []
        if width != self._width or len(lines) != len(self._drawn):
            self._drawn, self._width = [], width
            segments += [Control.clear().segment, Control.home().segment]
        changed = 0
        for y, line in enumerate(lines):
            if y < len(self._drawn) and self._drawn[y] == line:
                continue
            changed += 1
            segments.append(Control.move_to(0, y).segment)
            segments += [Segment(span.text, self._console.get_style(span.style)) for span in line]
        if segments:
            self._console.print(Segments(segments), end="", crop=False)
        self._drawn = list(lines)
        return changed
