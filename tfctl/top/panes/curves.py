"""The curves of the chosen job, where a screen has room for them: its loss, and its accuracy beside it."""

from __future__ import annotations

from tfctl.render.chart import Curve, chart
from tfctl.top.known import Known
from tfctl.top.panes.fields import ACCURACIES, LOSSES, VALIDATED
from tfctl.top.spans import HEADING, MUTED, Line, Span, exactly
from trainforge.api import JobView, Series

FOOT = 3  # rows of a chart below its curves
LEAST = 5 + FOOT  # rows with which a chart still tells something
NARROWEST = 44  # cells of one of two charts
GAP = 2


def names(job: JobView | None) -> tuple[str, ...]:
    """The series worth drawing: the loss, and how well it does, of what the job has reported."""
    if job is None or job.progress is None:
        return ()
    wanted = (LOSSES, (*VALIDATED, *ACCURACIES))
    reported = job.progress.metrics
    chosen = (next((name for name in group if name in reported), None) for group in wanted)
    found = tuple(name for name in chosen if name is not None)
    return found or tuple(reported)[:1]


def pane(known: Known, job: JobView | None, width: int, rows: int) -> list[Line]:
    """The heading and at most `rows` rows; nothing where the job has no curves."""
    answer = known.curves
    if job is None or answer is None or answer.job != job.id or not answer.series:
        return []
    series = answer.series[: 2 if width >= 2 * NARROWEST + GAP else 1]
    each = (width - GAP * (len(series) - 1)) // len(series)
    charts = [_chart(one, each, rows) for one in series]
    lines = [exactly((Span(f"JOB {job.id} {job.name}", HEADING),), width)]
    for y in range(max(map(len, charts))):
        parts: list[Span] = []
        for drawn in charts:
            parts += [
                *([Span(" " * GAP)] if parts else []),
                *(drawn[y] if y < len(drawn) else exactly((), each)),
            ]
        lines.append(exactly(parts, width))
    return lines


def _chart(series: Series, width: int, rows: int) -> list[Line]:
    changes = zip(series.attempt, series.attempt[1:], series.step[1:], strict=False)
    marks = [step for before, after, step in changes if before != after]
    curve = Curve(series.name, series.step, series.numbers, marks)
    lines = chart([curve], width, max(1, rows - FOOT))
    return [exactly(_coloured(line), width) for line in lines]


def _coloured(line: str) -> Line:
    """The scale muted, the curve not."""
    edge = next((place for place, character in enumerate(line) if character in "┤│└"), -1) + 1
    return Span(line[:edge], MUTED), Span(line[edge:], MUTED if line[edge - 1] == "└" else "cyan")
