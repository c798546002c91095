"""What happened last, the newest first."""

from __future__ import annotations

import datetime
from itertools import islice

from tfctl.top.known import Known
from tfctl.top.spans import BAD, HEADING, MUTED, WARNING, Column, Line, Span, clean, exactly, row, total
from trainforge.api import EventView

WHEN, JOB = Column("", 8), Column("", 9)
STYLES = {
    "job_failed": BAD,
    "gpu_set_aside": BAD,
    "gpu_gone": BAD,
    "attempt_ended": "",
    "job_succeeded": "green",
    "job_retried": WARNING,
    "gpu_withheld": WARNING,
    "checkpoint_skipped": WARNING,
}


def pane(known: Known, width: int, count: int, today: datetime.date, *, titled: bool) -> list[Line]:
    """At most `count` events, below a heading or not."""
    columns = (WHEN, JOB, Column("", max(0, width - total((WHEN, JOB)) - 1)))
    lines = [exactly((Span("EVENTS", HEADING),), width)] if titled else []
    for event in islice(reversed(known.events), count):
        cells = (
            Span(moment(event.time, today), MUTED),
            Span(f"job {event.job}" if event.job is not None else "", MUTED),
            Span(_words(event), STYLES.get(event.type, "")),
        )
        lines.append(exactly(row(columns, cells), width))
    return lines


def moment(time: datetime.datetime, today: datetime.date) -> str:
    """Local time of today, else the day."""
    local = time.astimezone()
    return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%d %b}"


def _words(event: EventView) -> str:
    return clean(event.message) or event.type.replace("_", " ")
