"""What happened last, the newest first."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from itertools import islice

from tfctl.top.known import Known
from tfctl.top.spans import BAD, HEADING, MUTED, WARNING, Column, Line, Span, clean, exactly, row, total
from trainforge.api import EventView

WHEN = Column("", 8)
SHORTEST_JOB, LONGEST_JOB = 20, 32
SAVED = "checkpoint_saved"
LEFT_OUT = frozenset({"attempt_ended"})  # what came of it is said by the event after it
STYLES = {
    "job_succeeded": "green",
    "job_failed": BAD,
    "job_retried": WARNING,
    "checkpoint_skipped": WARNING,
    "gpu_gone": BAD,
    "gpu_set_aside": BAD,
    "gpu_withheld": WARNING,
}
VERDICTS = {"job_succeeded": "succeeded", "job_failed": "failed"}


def pane(known: Known, width: int, count: int, today: datetime.date, *, titled: bool) -> list[Line]:
    """At most `count` events, below a heading or not."""
    job = Column("", min(LONGEST_JOB, max(SHORTEST_JOB, width // 4)))
    columns = (WHEN, job, Column("", max(0, width - total((WHEN, job)) - 1)))
    lines = [exactly((Span("EVENTS", HEADING),), width)] if titled else []
    for event in islice(_told(known.events), count):
        cells = (
            Span(moment(event.time, today), MUTED),
            Span(_job(known, event), MUTED),
            Span(_words(known, event), STYLES.get(event.type, "")),
        )
        lines.append(exactly(row(columns, cells), width))
    return lines


def _told(events: Sequence[EventView]) -> Iterator[EventView]:
    """Of a job's checkpoints the newest alone: one that saves each second leaves room for other things."""
    saved: set[int | None] = set()
    for event in reversed(events):
        if event.type in LEFT_OUT or (event.type == SAVED and event.job in saved):
            continue
        if event.type == SAVED:
            saved.add(event.job)
        yield event


def moment(time: datetime.datetime, today: datetime.date) -> str:
    """Local time of today, else the day."""
    local = time.astimezone()
    return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%d %b}"


def _job(known: Known, event: EventView) -> str:
    if event.job is None:
        return ""
    name = known.names.get(event.job)
    return f"{event.job} {name}" if name is not None else f"job {event.job}"


def _words(known: Known, event: EventView) -> str:
    message = clean(event.message) or event.type.replace("_", " ")
    if event.job is not None and event.type == "job_submitted":  # its name stands before the message
        message = message.removeprefix(f"{known.names.get(event.job)} was ")
    verdict = VERDICTS.get(event.type)
    return f"{verdict}: {message}" if verdict is not None else message
