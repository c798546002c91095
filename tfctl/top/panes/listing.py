"""What panes of jobs have in common: the part of a list that is shown, and the mark of the chosen job."""

from __future__ import annotations

from collections.abc import Sequence

from tfctl.render.words import named
from tfctl.top.spans import STRONG, Span, clean
from trainforge.api import JobView

MARK = "▸"


def window(jobs: Sequence[JobView], rows: int, selected: JobView | None) -> Sequence[JobView]:
    """`rows` of the jobs, from the first on, or so far down that the chosen one is the last."""
    place = next((n for n, job in enumerate(jobs) if selected is not None and job.id == selected.id), 0)
    first = max(0, place - rows + 1)
    return jobs[first : first + rows]


def mark(job: JobView, selected: JobView | None) -> Span:
    return Span(MARK if selected is not None and job.id == selected.id else " ", STRONG)


def name(job: JobView, selected: JobView | None, width: int) -> Span:
    """With what sets it apart from others of that name."""
    text = named(clean(job.name), clean(job.label), width)
    return Span(text, STRONG if selected is not None and job.id == selected.id else "")


def longest_name(jobs: Sequence[JobView]) -> int:
    """The width of the longest name, with what sets its job apart."""
    return max((len(f"{job.name} {job.label}".rstrip()) for job in jobs), default=0)


def counted(count: int, word: str, hidden: int, width: int) -> str:
    """`12 RUNNING … and 7 more`, or as much of that as there is room for."""
    if hidden <= 0:
        return f"{count or 'NOTHING'} {word}"
    forms = (f"{count} {word} … and {hidden} more", f"{count} {word} … {hidden} more", f"{count} {word}")
    return next((form for form in forms if len(form) <= width), forms[-1])


def digits(jobs: Sequence[JobView]) -> int:
    """The width of the numbers of these jobs."""
    return max(3, max((len(str(job.id)) for job in jobs), default=0))


def users(jobs: Sequence[JobView]) -> int:
    """How many users they belong to: of one alone there is no need to say who."""
    return len({job.user for job in jobs})
