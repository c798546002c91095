"""What is told, and to whom: an event becomes a notice, a notice a letter for each way. Pure.

What comes from a job (names, messages, tracebacks) is text to be shown, never markup or control characters.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec

from trainforge.api import EventView, JobView, Progress
from trainforge.api.page import Incident, Tried
from trainforge.spec import NoticeKind, Notify

LONGEST_SUBJECT = 160
TRACEBACK_LINES = 25
EVIDENCE_LINES = 25
MOST_TRIED = 5
LONGEST_TEXT = 12_000

KINDS: dict[str, tuple[NoticeKind, ...]] = {
    "job_succeeded": ("end",),
    "job_cancelled": ("end",),
    "job_failed": ("end", "failure"),
    "hang_found": ("hang",),
    "hang_suspected": ("hang",),
    "gpu_set_aside": ("gpu",),
    "long_wait": ("wait",),
    "waste_noticed": ("waste",),
}
Way = Literal["command", "webhook", "slack", "discord", "mail", "desktop"]


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What is told. `subject` is one line; `text` has it all, the subject too."""

    event: int
    type: str  # of the event
    time: datetime.datetime
    subject: str
    text: str
    host: str
    job: int | None = None
    name: str | None = None
    user: str | None = None
    state: str | None = None
    reason: str | None = None
    data: dict[str, Any] = {}


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A notice on one way to one target: an address, or the words of a command. Times are seconds since
    the epoch."""

    id: str
    notice: Notice
    way: Way
    target: tuple[str, ...] = ()
    created_at: float
    due_at: float
    tries: int = 0
    last_error: str | None = None

    @property
    def place(self) -> tuple[Way, str]:
        """Who takes it: a server, a program, the mail. What one of them does not take keeps nobody else's."""
        target = self.target[0] if self.target else ""
        if self.way in ("webhook", "slack", "discord"):
            return self.way, target.partition("://")[2].partition("/")[0]
        return self.way, "" if self.way == "mail" else " ".join(self.target)


def ways(notify: Notify, type: str) -> Iterator[tuple[Way, tuple[str, ...]]]:
    """The ways by which an event of this type is to be told."""
    if not set(KINDS.get(type, ())) & set(notify.on):
        return
    if notify.command:
        yield "command", notify.command
    for address in notify.webhook:
        yield "webhook", (address,)
    for address in notify.slack:
        yield "slack", (address,)
    for address in notify.discord:
        yield "discord", (address,)
    for address in notify.mail:
        yield "mail", (address,)
    if notify.desktop:
        yield "desktop", ()


def letters(notice: Notice, to: Iterable[tuple[Way, tuple[str, ...]]], now: float) -> list[Letter]:
    """One for each way, each once. The same event gives the same ids again."""
    return [
        Letter(
            id=f"{notice.event:012d}-{number}",
            notice=notice,
            way=way,
            target=target,
            created_at=now,
            due_at=now,
        )
        for number, (way, target) in enumerate(dict.fromkeys(to))
    ]


def notice(event: EventView, job: JobView | None, incident: Incident | None, host: str) -> Notice:
    """What to tell of the event; of one of a job with all that is known of why."""
    subject = _line(_subject(event, job))
    parts = [subject, *(_details(job, incident) if job is not None and incident is not None else ())]
    if event.message and event.message not in subject and job is not None:
        parts.insert(1, event.message)
    if event.type == "long_wait" and job is not None:
        parts.insert(1, f"it {job.why}")
    parts.append(f"on {host}" + (f"; tfctl why {event.job}" if event.job is not None else "; tfctl gpus"))
    return Notice(
        event=event.id,
        type=event.type,
        time=event.time,
        subject=subject,
        text=_clean("\n\n".join(parts))[:LONGEST_TEXT],
        host=host,
        job=event.job,
        name=job.name if job is not None else None,
        user=job.user if job is not None else None,
        state=str(job.state) if job is not None else None,
        reason=job.reason if job is not None else None,
        data=event.data,
    )


def _subject(event: EventView, job: JobView | None) -> str:
    if job is None:
        return event.message if event.job is None else f"job {event.job}: {event.message}"
    named = f"job {job.id} ({job.name})"
    if event.type == "job_succeeded":
        return f"{named} succeeded after {_span(job.elapsed)}"
    if event.type == "job_cancelled":
        return f"{named} was cancelled after {_span(job.elapsed)}"
    if event.type == "job_failed":
        return f"{named} {job.why}"
    return f"{named} {event.message}"


def _details(job: JobView, incident: Incident) -> Iterator[str]:
    """The incident's text, in the order in which one asks."""
    if incident.rank is not None:
        yield f"rank {incident.rank} failed first"
    if incident.evidence and job.state.ended and job.reason is not None:
        yield _last_lines("\n".join(incident.evidence), EVIDENCE_LINES)
    if incident.traceback:
        yield _last_lines(incident.traceback, TRACEBACK_LINES)
    where = _position(incident.last_progress)
    if where:
        yield f"last reported: {where}"
    if len(incident.tried) > 1:
        yield "\n".join(_line(_attempt(tried)) for tried in incident.tried[-MOST_TRIED:])
    elif incident.tried and incident.tried[0].followed:
        yield _line(incident.tried[0].followed)
    yield from incident.advice


def _attempt(tried: Tried) -> str:
    message = f", {tried.message}" if tried.message else ""
    followed = f"; {tried.followed}" if tried.followed else ""
    return f"attempt {tried.attempt}: {tried.reason or 'runs'}{message}{followed}"


def _position(progress: Progress | None) -> str:
    if progress is None:
        return ""
    parts = [
        f"{name} {at:g}" + (f"/{end:g}" if end is not None else "")
        for name, at, end in (
            ("epoch", progress.epoch, progress.epochs),
            ("step", progress.step, progress.steps),
        )
        if at is not None
    ]
    parts += [f"{name} {'nan' if value is None else format(value, '.4g')}"
              for name, value in list(progress.metrics.items())[:8]]  # fmt: skip
    return ", ".join(parts)


def _last_lines(text: str, most: int) -> str:
    lines = text.rstrip().splitlines()
    return "\n".join(lines if len(lines) <= most else ["…", *lines[-most:]])


def _line(text: str) -> str:
    words = _clean(" ".join(text.split()))
    return words if len(words) <= LONGEST_SUBJECT else words[: LONGEST_SUBJECT - 1] + "…"


def _clean(text: str) -> str:
    return "".join(
        char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
