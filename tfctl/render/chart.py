"""Curves in text: braille dots, four rows and two columns to a character, with axes and a legend.

Points are joined by lines; a value that is not a number leaves a gap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from tfctl.render.figures import metric

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row, then column of a character
BLANK = 0x2800
BARS = " ▁▂▃▄▅▆▇█"
MOST = 8  # curves that can be told apart


class Curve(NamedTuple):
    """`x` ascending; `y` of None is a gap. `marks` are positions to point out (a new attempt)."""

    label: str
    x: Sequence[float]
    y: Sequence[float | None]
    marks: Sequence[float] = ()


class Canvas:
    """`width` × `height` characters; (0, 0) is the dot at the lower left."""

    def __init__(self, width: int, height: int) -> None:
        self.across, self.up = width * 2, height * 4
        self._cells = [[0] * width for _ in range(height)]
        self._owner = [[-1] * width for _ in range(height)]

    def dot(self, x: int, y: int, owner: int) -> None:
        if 0 <= x < self.across and 0 <= y < self.up:
            row = (self.up - 1 - y) // 4
            self._cells[row][x // 2] |= DOTS[(self.up - 1 - y) % 4][x % 2]
            self._owner[row][x // 2] = owner

    def line(self, x0: int, y0: int, x1: int, y1: int, owner: int) -> None:
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for step in range(steps + 1):
            self.dot(x0 + round((x1 - x0) * step / steps), y0 + round((y1 - y0) * step / steps), owner)

    def rows(self) -> list[list[tuple[str, int]]]:
        """Characters with the curve that each belongs to (-1: none), from the top."""
        return [
            [(chr(BLANK + bits) if bits else " ", owner) for bits, owner in zip(cells, owners, strict=True)]
            for cells, owners in zip(self._cells, self._owner, strict=True)
        ]


def chart(curves: Sequence[Curve], width: int, height: int, colours: Sequence[str] = ()) -> list[str]:
    """Lines of text, at most `width` wide, `height` of them for the curves. `colours` are escape codes."""
    curves = [curve for curve in curves if _points(curve)][:MOST]
    if not curves:
        return ["(no values yet)"]
    xs = [x for curve in curves for x, _ in _points(curve)]
    ys = [y for curve in curves for _, y in _points(curve)]
    bottom, top = _range(ys)
    left, right = min(xs), max(xs)
    labels = [metric(top), metric((top + bottom) / 2), metric(bottom)]
    margin = max(map(len, labels)) + 2
    canvas = Canvas(max(10, width - margin), height)
    for number, curve in enumerate(curves):
        _draw(canvas, curve, number, (left, right or 1.0), (bottom, top))
    at = {0: labels[0], height // 2: labels[1], height - 1: labels[2]}
    lines = [
        f"{at.get(row, ''):>{margin - 2}} {'┤' if row in at else '│'}{_coloured(cells, colours)}"
        for row, cells in enumerate(canvas.rows())
    ]
    return lines + _foot(curves, margin, canvas.across // 2, left, right, colours)


def sparkline(values: Sequence[float | None], width: int, top: float | None = None) -> str:
    """The newest `width` values as bars; `top` is the full bar (default: the largest value)."""
    shown = list(values)[-width:]
    highest = top or max((v for v in shown if v is not None), default=0.0) or 1.0
    return "".join(_bar(value, highest) for value in shown).rjust(width)


def _bar(value: float | None, highest: float) -> str:
    if value is None:
        return " "
    share = min(1.0, max(0.0, value / highest))
    return BARS[max(1, round(share * (len(BARS) - 1)))]


def _points(curve: Curve) -> list[tuple[float, float]]:
    pairs = zip(curve.x, curve.y, strict=True)
    return [(x, y) for x, y in pairs if y is not None and math.isfinite(y)]


def _range(ys: Sequence[float]) -> tuple[float, float]:
    bottom, top = min(ys), max(ys)
    return (bottom, top) if top > bottom else (bottom - 0.5, top + 0.5)


def _draw(
    canvas: Canvas, curve: Curve, owner: int, across: tuple[float, float], up: tuple[float, float]
) -> None:
    def place(x: float, y: float) -> tuple[int, int]:
        width = (across[1] - across[0]) or 1.0
        return (
            round((x - across[0]) / width * (canvas.across - 1)),
            round((y - up[0]) / (up[1] - up[0]) * (canvas.up - 1)),
        )

    last: tuple[int, int] | None = None
    for x, y in zip(curve.x, curve.y, strict=True):
        here = place(x, y) if y is not None and math.isfinite(y) else None
        if here is not None:
            canvas.line(*(last or here), *here, owner)
        last = here


def _coloured(cells: Sequence[tuple[str, int]], colours: Sequence[str]) -> str:
    if not colours:
        return "".join(character for character, _ in cells).rstrip()
    return "".join(
        f"{colours[owner % len(colours)]}{character}\x1b[0m" if owner >= 0 else character
        for character, owner in cells
    )


def _foot(
    curves: Sequence[Curve], margin: int, width: int, left: float, right: float, colours: Sequence[str]
) -> list[str]:
    """The axis below, with a mark where an attempt began, and the legend."""
    axis = ["─"] * width
    for mark in {mark for curve in curves for mark in curve.marks}:
        axis[min(width - 1, max(0, round((mark - left) / ((right - left) or 1) * (width - 1))))] = "┴"
    first, last = metric(left), metric(right)
    pad = " " * margin
    lines = [f"{' ' * (margin - 1)}└{''.join(axis)}", f"{pad}{first}{last:>{max(1, width - len(first))}}"]
    names = []
    for number, curve in enumerate(curves):
        start, end = (colours[number % len(colours)], "\x1b[0m") if colours else ("", "")
        newest = _points(curve)[-1][1]
        names.append(f"{start}━━{end} {curve.label} {metric(newest)}")
    return [*lines, pad + "   ".join(names)]
