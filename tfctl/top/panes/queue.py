"""Jobs that wait: what each asks for and why it does not run, in the order they will start."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from tfctl.render.figures import ago
from tfctl.render.jobs import STYLES
from tfctl.render.words import reason
from tfctl.top.control import Rows
from tfctl.top.known import Known
from tfctl.top.panes.listing import counted, digits, longest_name, mark, name, users, window
from tfctl.top.spans import HEADING, Column, Line, Span, clean, exactly, heading, row, total
from trainforge.api import JobView
from trainforge.states import JobState

SHORTEST_NAME = 19
WORDS = 50  # the least that is left for the reason when another column is added


def pane(
    known: Known, rows: Rows, selected: JobView | None, width: int, count: int, now: datetime.datetime
) -> list[Line]:
    """The heading and at most `count` rows."""
    if not known.waiting_in_all:
        return [exactly((Span("NOTHING WAITING", HEADING),), width)]
    shown = window(rows.waiting, count, selected)
    number, named, *others = columns = _columns(shown, rows.waiting, width)
    titled = 1 + number.width + 1 + named.width
    waiting = known.waiting_in_all
    title = Column(counted(waiting, "WAITING", waiting - len(shown), titled), titled)
    lines = [exactly(heading((title, *others)), width)]
    for job in shown:
        cells = [_cell(job, column, selected, now) for column in columns]
        lines.append(exactly((mark(job, selected), *row(columns, cells)), width))
    return lines


def _columns(shown: Sequence[JobView], waiting: Sequence[JobView], width: int) -> list[Column]:
    """Number, name, what else there is room for, and the reason."""
    columns = [
        Column("ID", digits(shown), right=True),
        Column("NAME", SHORTEST_NAME),
        Column("GPU", max(3, *(len(str(job.resources.gpu)) for job in shown), 0)),
    ]

    def spare() -> int:
        """What could be given away without taking it from the reason."""
        return width - 1 - total(columns) - 1 - WORDS

    others = [Column("PRI", 4, right=True)] if any(job.priority for job in waiting) else []
    others += [Column("USER", 10)] if users(waiting) > 1 else []
    for column in (*others, Column("SINCE", 10)):
        if spare() > column.width:
            columns.append(column)
    wanted = longest_name(shown) - SHORTEST_NAME
    columns[1] = Column("NAME", SHORTEST_NAME + max(0, min(spare(), wanted)))
    return [*columns, Column("WHY", max(0, width - 1 - total(columns) - 1))]


def _cell(job: JobView, column: Column, selected: JobView | None, now: datetime.datetime) -> Span:
    match column.title:
        case "ID":
            return Span(str(job.id))
        case "NAME":
            return name(job, selected, column.width)
        case "GPU":
            return Span(str(job.resources.gpu))
        case "PRI":
            return Span(str(job.priority))
        case "USER":
            return Span(clean(job.user))
        case "SINCE":
            return Span(ago(job.submitted_at, now))
    style = "" if job.state is JobState.QUEUED else STYLES[job.state]
    return Span(reason(clean(job.why), column.width), style)
