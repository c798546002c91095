"""Figures as small as a row of the view needs them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tfctl.render.figures import metric
from tfctl.top.spans import MUTED, Line, Span
from trainforge.api import Progress

NAN = "nan"
DONE, HALF, LEFT = "━", "╸", "─"


def bar(fraction: float | None, width: int, style: str = "green") -> Line:
    """How much is done; without a fraction nothing of it is filled."""
    halves = round(min(1.0, max(0.0, fraction or 0.0)) * width * 2)
    done = DONE * (halves // 2) + HALF * (halves % 2)
    return Span(done, style), Span(LEFT * (width - len(done)), MUTED)


def brief(value: float, width: int) -> str:
    """Four significant digits, or as many as there is room for in six cells or more."""
    size = abs(value)
    if size >= 10 ** (width - 1):
        return compact(value)
    if size >= 1000:
        return f"{value:.0f}"
    if 0 < size < 0.001:
        return f"{value:.1e}" if width >= 8 else f"{value:.0e}"
    decimals = 4 if size < 1 else 3 - (size >= 10) - (size >= 100)
    text = f"{value:.{decimals}f}"
    return text if len(text) <= width else f"{value:.{max(0, decimals - len(text) + width)}f}"


def compact(value: float) -> str:
    """A large number in at most four digits and a letter: `950`, `1.2k`, `45k`, `3.4M`."""
    for letter in ("", "k", "M", "G", "T"):
        if abs(value) < 999.5 or letter == "T":
            break
        value /= 1000
    return f"{value:.1f}{letter}" if letter and abs(value) < 9.95 else f"{value:.0f}{letter}"


def first_of(progress: Progress | None, names: Sequence[str], width: int) -> str:
    """The first of these metrics that was reported; `nan` for one that is no number. Empty for none."""
    if progress is None:
        return ""
    for name in names:
        if name in progress.metrics:
            value = progress.metrics[name]
            return NAN if value is None else brief(value, width)
    return ""


def where(progress: Progress | None) -> str:
    """`45/200` epochs, or `step 12k`; empty where nothing was reported."""
    if progress is None:
        return ""
    if progress.epoch is not None:
        whole = f"/{metric(progress.epochs)}" if progress.epochs is not None else ""
        return f"{metric(math.floor(progress.epoch))}{whole}"
    return f"step {compact(progress.step)}" if progress.step is not None else ""


def numbers(values: Sequence[int]) -> str:
    """`0-3,6`: numbers in order, those in a row together."""
    groups: list[list[int]] = []
    for value in sorted(values):
        if groups and value == groups[-1][-1] + 1:
            groups[-1].append(value)
        else:
            groups.append([value])
    return ",".join(str(g[0]) if len(g) == 1 else f"{g[0]}-{g[-1]}" for g in groups)
