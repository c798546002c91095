"""How the rows of the screen are shared out among the panes. Pure; every number is in rows or cells.

Each pane has one row of headings, but for the events on a low screen. What a pane cannot show it
counts in its heading, so no row is spent on that. A pane that has little to show leaves its rows to
the others.
"""

from __future__ import annotations

from typing import NamedTuple

FRAME = 2  # the first row and the last
WIDE = 150  # from here on the queue and the events stand beside each other
TALL = 32  # from here on an empty row stands between panes
LEAST_CURVES, MOST_CURVES = 8, 20
LEAST_GPUS = 4  # rows that many GPUs keep on a small screen


class Wants(NamedTuple):
    """How many rows each pane could fill, without its heading."""

    gpus: int
    running: int
    queue: int
    events: int


class Plan(NamedTuple):
    """Rows of each pane, without its heading; None for a pane that is left out."""

    gpus: int | None
    running: int | None
    queue: int | None
    events: int | None
    curves: int | None  # below the queue
    beside: bool  # queue and events
    gap: int  # empty rows between panes


def plan(height: int, width: int, wants: Wants) -> Plan:
    """The rows of a screen of this size. They are never more than the screen has."""
    beside = width >= WIDE
    gap = 1 if height >= TALL else 0
    stacks = 3 if beside else 4
    headings = stacks if beside or gap else stacks - 1  # on a low screen the events do without
    room = height - FRAME - headings - gap * (stacks - 1)
    if room < stacks:
        return _small(height - FRAME)
    gpus = min(wants.gpus, max(min(LEAST_GPUS, room // 4), room - _least(wants, beside)))
    if not beside:
        turns = (0, 1, 0, 2, 0, 1, 0, 2, 1, 0)  # of ten rows five go to running jobs
        running, queue, events = _deal(room - gpus, (wants.running, wants.queue, wants.events), turns)
        return Plan(gpus, running, queue, events, None, beside, gap)
    running, _ = _deal(room - gpus, (wants.running, max(wants.queue, wants.events)), (0, 1, 0))
    events = room - gpus - running
    queue, curves = _left_side(events, wants.queue, gap)
    return Plan(gpus, running, queue, events, curves, beside, gap)


def _small(room: int) -> Plan:
    """A screen of a few rows: the running jobs, and the GPUs if there is a row for one of them."""
    gpus = room // 2 - 1 if room >= 6 else None
    running = room - 1 - (gpus + 1 if gpus is not None else 0)
    return Plan(gpus, running if running >= 0 else None, None, None, None, beside=False, gap=0)


def _least(wants: Wants, beside: bool) -> int:
    """What the panes below the GPUs need to be of use."""
    queue, events = min(wants.queue, 3), min(wants.events, 2)
    return min(wants.running, 5) + (max(queue, events) if beside else queue + events)


def _left_side(room: int, queue: int, gap: int) -> tuple[int, int | None]:
    """Rows of the queue, and of the curves below it where there is room for them."""
    for rows in (min(queue, room), min(queue, room // 2)):
        curves = room - rows - 1 - gap
        if curves >= LEAST_CURVES:
            return rows, min(curves, MOST_CURVES)
    return room, None


def _deal(room: int, wants: tuple[int, ...], turns: tuple[int, ...]) -> list[int]:
    """Rows handed out one by one, in turns; who wants no more is passed over."""
    given = [0] * len(wants)
    while room and any(have < want for have, want in zip(given, wants, strict=True)):
        for pane in turns:
            if room and given[pane] < wants[pane]:
                given[pane] += 1
                room -= 1
    return given
