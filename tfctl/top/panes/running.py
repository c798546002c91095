"""Running jobs: how far, how well, how fast, how long still, and which attempt; then what just ended."""

from __future__ import annotations

from collections.abc import Sequence

from tfctl.render.figures import duration, size
from tfctl.render.jobs import STYLES, latest
from tfctl.top.control import Rows
from tfctl.top.figures import NAN, bar, where
from tfctl.top.known import Known
from tfctl.top.panes.fields import ACCURACIES, LOSSES, RATES, VALIDATED, Field, Fields, fields_for
from tfctl.top.panes.listing import counted, mark, name, window
from tfctl.top.spans import BAD, HEADING, MUTED, WARNING, Column, Line, Span, clean, exactly, heading, row
from trainforge.api import JobView, Progress
from trainforge.states import JobState

BEGIN = "   tfctl submit queues a job; tfctl init writes a project"
SHOWN = frozenset((*LOSSES, *ACCURACIES, *VALIDATED, *RATES))


def pane(
    known: Known, rows: Rows, selected: JobView | None, width: int, count: int, now: float
) -> list[Line]:
    """The heading and at most `count` rows."""
    if not rows.running:
        begin = BEGIN if not known.waiting_in_all else ""
        return [exactly((Span("NOTHING RUNNING", HEADING), Span(begin, MUTED)), width)]
    shown = window(rows.running, count, selected)
    fields = fields_for(shown, width)
    live = _live(rows.running)
    title = counted(live, "RUNNING", live - _live(shown), fields.title)
    return [
        exactly(_heading(fields, title), width),
        *(exactly(_row(job, known, selected, fields, now), width) for job in shown),
    ]


def _live(jobs: Sequence[JobView]) -> int:
    return sum(not job.state.ended for job in jobs)


def _heading(fields: Fields, title: str) -> Line:
    return heading(
        [
            Column(title, fields.title),
            *(field.column for field in fields.before),
            Column("PROGRESS", fields.bar),
            *(field.column for field in (*fields.figures, *fields.after)),
        ]
    )


def _row(job: JobView, known: Known, selected: JobView | None, fields: Fields, now: float) -> Line:
    def cells(group: Sequence[Field]) -> Line:
        columns = [field.column for field in group]
        return row(columns, [Span(field.cell(job, known, now), _style(field, job)) for field in group])

    named = (Column("", fields.digits, right=True), Column("", fields.name))
    style = MUTED if job.state.ended else ""
    parts: list[Line] = [
        (mark(job, selected), *row(named, (Span(str(job.id), style), name(job, selected, fields.name)))),
        cells(fields.before),
        _middle(job, known, fields, now),
        cells(fields.after),
    ]
    out: list[Span] = []
    for part in filter(None, parts):
        out += [Span(" "), *part] if out else part
    return tuple(out)


def _style(field: Field, job: JobView) -> str:
    if job.state.ended:
        return MUTED
    return WARNING if field.column.title == "TRY" and job.attempt > 1 else ""


def _middle(job: JobView, known: Known, fields: Fields, now: float) -> Line:
    """The bar and the figures; of a job that has none, words in their place."""
    progress = job.progress
    if job.waste is not None and job.state is JobState.RUNNING:
        return _wasting(clean(job.waste.sentence), progress, fields)
    if job.state is not JobState.RUNNING:
        words = clean(job.why).removeprefix("is ")
        words = words if job.state.ended or words.startswith(job.state) else f"{job.state}: {clean(job.why)}"
        return exactly((Span(words, STYLES[job.state]),), fields.middle)
    if progress is None or not (where(progress) or progress.metrics):
        return exactly((Span(_alone(job, known, now), MUTED),), fields.middle)
    drawn = bar(progress.fraction, fields.bar)
    if progress.metrics and SHOWN.isdisjoint(progress.metrics):
        words = f" {where(progress)}  {clean(latest(progress))}"
        return exactly((*drawn, Span(words)), fields.middle)
    cells = [_figure(field.cell(job, known, now)) for field in fields.figures]
    return (*drawn, Span(" "), *row([field.column for field in fields.figures], cells))


def _wasting(sentence: str, progress: Progress | None, fields: Fields) -> Line:
    """Comes before the figures, and before the bar where there is no room for both."""
    words = Span(sentence, WARNING)
    if progress is None or fields.bar + 1 + len(sentence) > fields.middle:
        return exactly((words,), fields.middle)
    return exactly((*bar(progress.fraction, fields.bar), Span(" "), words), fields.middle)


def _figure(text: str) -> Span:
    return Span(text, BAD if text == NAN else "")


def _alone(job: JobView, known: Known, now: float) -> str:
    """Of a job that reports nothing: for how long it runs, and what it uses."""
    parts = [f"runs for {duration(known.elapsed(job, now))}"]
    if job.usage is not None:
        parts += [f"{job.usage.cpu:.1f} cores", size(job.usage.memory)]
    return ", ".join(parts)
