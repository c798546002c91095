"""Lines of the screen as styled pieces of text, measured in cells of the terminal.

What a job or a driver says goes through `clean` first: whatever is in it, a line stays one line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

MUTED, HEADING, STRONG, WARNING, BAD = "dim", "bold", "bold", "yellow", "red"


class Span(NamedTuple):
    """`style` is one that Rich understands; empty for the terminal's own."""

    text: str
    style: str = ""


Line = tuple[Span, ...]


class Column(NamedTuple):
    """`right`: its values stand at the right edge."""

    title: str
    width: int
    right: bool = False


def clean(text: str) -> str:
    """One line without control characters."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " for c in text)


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Exactly `width` cells; what is cut off leaves a `…`."""
    if width <= 0:
        return ""
    length = len(text) if text.isascii() else cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + "…"
    return " " * (width - length) + text if right else text + " " * (width - length)


def width_of(line: Iterable[Span]) -> int:
    return sum(cell_len(span.text) for span in line)


def exactly(line: Sequence[Span], width: int) -> Line:
    """The line cut or filled to `width` cells."""
    out: list[Span] = []
    left = width
    for span in line:
        length = cell_len(span.text)
        if length > left:
            out.append(Span(fit(span.text, left), span.style))
            return tuple(out)
        out.append(span)
        left -= length
    if left:
        out.append(Span(" " * left))
    return tuple(out)


def row(columns: Sequence[Column], cells: Sequence[Span], gap: str = " ") -> Line:
    """One value for each column."""
    out: list[Span] = []
    for column, cell in zip(columns, cells, strict=True):
        if out:
            out.append(Span(gap))
        out.append(Span(fit(cell.text, column.width, right=column.right), cell.style))
    return tuple(out)


def heading(columns: Sequence[Column], style: str = HEADING) -> Line:
    """The titles of the columns."""
    return row(columns, [Span(column.title, style) for column in columns])


def total(columns: Sequence[Column], gap: int = 1) -> int:
    """The width of a row."""
    return sum(column.width for column in columns) + gap * max(0, len(columns) - 1)


def apart(left: Line, right: Line, width: int) -> Line:
    """`left` at the left edge and `right` at the right one; where both do not fit, `left` alone."""
    gap = width - width_of(left) - width_of(right)
    if gap < 2:
        return exactly(left, width)
    return (*left, Span(" " * gap), *right)
