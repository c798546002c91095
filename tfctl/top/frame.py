"""The whole screen, as exactly as many lines as it has rows, each exactly as wide. Pure."""

from __future__ import annotations

import datetime
from typing import NamedTuple

from tfctl.top.control import Rows, View, rows
from tfctl.top.edges import footer, header
from tfctl.top.help import help_lines
from tfctl.top.known import Known
from tfctl.top.layout import Plan, Wants, plan
from tfctl.top.panes import curves, events, gpus, queue, running
from tfctl.top.spans import MUTED, Line, Span, exactly
from trainforge.api import JobView

BETWEEN = Span(" │ ", MUTED)


class Size(NamedTuple):
    width: int
    height: int


class Now(NamedTuple):
    """The moment of a frame: on the clock of messages, in seconds, and on the wall's, aware."""

    ticks: float
    time: datetime.datetime


def frame(known: Known, view: View, size: Size, now: Now) -> list[Line]:
    """What the screen shows now."""
    chosen = rows(known, view.order, now.time)
    selected = chosen.selected(view)
    body: list[Line] = []
    if view.helping:
        body = [exactly(line, size.width) for line in help_lines()]
    elif known.looked is not None:
        body = _panes(known, chosen, selected, size, now)
    empty = exactly((), size.width)
    room = max(0, size.height - 2)
    lines = [
        header(known, size.width, now.time),
        *body[:room],
        *[empty] * (room - len(body)),
        footer(known, view, selected, size.width, now.ticks),
    ]
    return lines[: size.height]


def _panes(known: Known, chosen: Rows, selected: JobView | None, size: Size, now: Now) -> list[Line]:
    wants = Wants(
        gpus=len(known.gpus.gpus) if known.gpus is not None else 0,
        running=len(chosen.running),
        queue=len(chosen.waiting),
        events=len(known.events),
    )
    shares = plan(size.height, size.width, wants)
    parts: list[list[Line]] = []
    if shares.gpus is not None:
        parts.append(gpus.pane(known, size.width, shares.gpus, now.ticks))
    if shares.running is not None:
        parts.append(running.pane(known, chosen, selected, size.width, shares.running, now.ticks))
    parts += _lower(known, chosen, selected, shares, size, now)
    out: list[Line] = []
    for part in parts:
        if out:
            out += [exactly((), size.width)] * shares.gap
        out += part
    return out


def _lower(
    known: Known, chosen: Rows, selected: JobView | None, shares: Plan, size: Size, now: Now
) -> list[list[Line]]:
    """Queue and events, one below the other or side by side."""
    if shares.queue is None or shares.events is None:
        return []
    left = (size.width - len(BETWEEN.text)) * 11 // 20 if shares.beside else size.width
    right = size.width - len(BETWEEN.text) - left if shares.beside else size.width
    waiting = queue.pane(known, chosen, selected, left, shares.queue, now.time)
    if shares.curves is not None:
        drawn = curves.pane(known, selected, left, shares.curves)
        waiting += [exactly((), left)] * (shares.gap if drawn else 0) + drawn
    today = now.time.astimezone().date()
    happened = events.pane(known, right, shares.events, today, titled=shares.beside or shares.gap > 0)
    if not shares.beside:
        return [waiting, happened]
    count = max(len(waiting), len(happened))
    waiting += [exactly((), left)] * (count - len(waiting))
    happened += [exactly((), right)] * (count - len(happened))
    return [[(*one, BETWEEN, *other) for one, other in zip(waiting, happened, strict=True)]]
