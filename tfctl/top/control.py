"""What the person at the keys chose, and what each key does. Pure: a key makes a new `View` and orders.

Orders are performed elsewhere (`app`, `source`).
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from tfctl.render.jobs import eta
from tfctl.top.known import Known
from trainforge.api import JobView
from trainforge.states import JobState


class Order(StrEnum):
    """How rows are sorted. The queue is in the order it will start, but for `USER`."""

    ID = "id"
    PROGRESS = "progress"
    ETA = "eta"
    USER = "user"


class Ask(StrEnum):
    """What can be asked of the daemon."""

    CANCEL = "cancel"
    HOLD = "hold"
    RELEASE = "release"


class Change(NamedTuple):
    """To be asked of the daemon."""

    ask: Ask
    job: int


class OpenLog(NamedTuple):
    """`pager`: in the user's pager rather than here."""

    job: int
    pager: bool = False


class Quit(NamedTuple):
    """Leave the view."""


Effect = Change | OpenLog | Quit


class View(msgspec.Struct, frozen=True, kw_only=True):
    """`confirming` is a change that waits for y."""

    order: Order = Order.ID
    selected: int | None = None
    confirming: Change | None = None
    helping: bool = False


class Rows(NamedTuple):
    """The jobs of both panes as they are sorted now; the keys move over one after the other."""

    running: Sequence[JobView]  # live ones, then those that ended lately
    waiting: Sequence[JobView]

    @property
    def all(self) -> list[JobView]:
        return [*self.running, *self.waiting]

    def selected(self, view: View) -> JobView | None:
        """The job that keys act on; the first one where none was chosen, or the chosen one is gone."""
        every = self.all
        return next((job for job in every if job.id == view.selected), every[0] if every else None)


def rows(known: Known, order: Order, now: datetime.datetime) -> Rows:
    """What can be shown and chosen."""
    live = sorted(known.live, key=SORTED[order])
    waiting = known.waiting
    if order is Order.USER:
        waiting = sorted(waiting, key=lambda job: job.user)
    return Rows([*live, *known.ended(now)], waiting)


def _by_progress(job: JobView) -> tuple[float, int]:
    """Who is furthest comes first."""
    done = job.progress.fraction if job.progress is not None else None
    return 1.0 if done is None else -done, job.id


def _by_eta(job: JobView) -> tuple[float, int]:
    """Who is done soonest comes first."""
    left = eta(job)
    return math.inf if left is None else left, job.id


SORTED: dict[Order, Callable[[JobView], tuple[float | str, int]]] = {
    Order.ID: lambda job: (0, job.id),
    Order.PROGRESS: _by_progress,
    Order.ETA: _by_eta,
    Order.USER: lambda job: (job.user, job.id),
}

PAGE = 10
MOVES = {
    "up": -1,
    "k": -1,
    "down": 1,
    "j": 1,
    "pageup": -PAGE,
    "pagedown": PAGE,
    "home": -(10**9),
    "g": -(10**9),
    "end": 10**9,
    "G": 10**9,
}


def press(view: View, key: str, rows: Rows) -> tuple[View, Effect | None]:
    """The view after a key, and what is to be done."""
    if view.confirming is not None:
        change = view.confirming if key in ("y", "Y") else None
        return msgspec.structs.replace(view, confirming=None), change
    if view.helping:
        return msgspec.structs.replace(view, helping=False), None
    if key in MOVES:
        return _move(view, rows, MOVES[key]), None
    match key:
        case "q" | "Q":
            return view, Quit()
        case "?":
            return msgspec.structs.replace(view, helping=True), None
        case "s":
            orders = list(Order)
            after = orders[(orders.index(view.order) + 1) % len(orders)]
            return msgspec.structs.replace(view, order=after), None
    job = rows.selected(view)
    return (view, None) if job is None else _act(view, key, job)


def settle(view: View, before: Rows, after: Rows) -> View:
    """The view after a look: where the chosen job has left its place by itself, what stands there now
    is chosen, so that the lists do not jump to wherever it went."""
    was = [job.id for job in before.all if not job.state.ended]
    now = [job.id for job in after.all if not job.state.ended]
    if view.selected not in was or view.selected in now or not now:
        return view
    return msgspec.structs.replace(view, selected=now[min(was.index(view.selected), len(now) - 1)])


def _act(view: View, key: str, job: JobView) -> tuple[View, Effect | None]:
    """A key that acts on the selected job. What a person may regret is asked twice."""
    view = msgspec.structs.replace(view, selected=job.id)
    match key:
        case "l" | "enter":
            return view, OpenLog(job.id)
        case "L":
            return view, OpenLog(job.id, pager=True)
        case "c" if not job.state.ended:
            return msgspec.structs.replace(view, confirming=Change(Ask.CANCEL, job.id)), None
        case "h" if job.state is JobState.HELD:
            return view, Change(Ask.RELEASE, job.id)
        case "h" if job.state.live:
            return msgspec.structs.replace(view, confirming=Change(Ask.HOLD, job.id)), None
        case "h" if not job.state.ended:
            return view, Change(Ask.HOLD, job.id)
    return view, None


def _move(view: View, rows: Rows, by: int) -> View:
    ids = [job.id for job in rows.all]
    if not ids:
        return view
    at = ids.index(view.selected) if view.selected in ids else 0
    return msgspec.structs.replace(view, selected=ids[max(0, min(len(ids) - 1, at + by))])
