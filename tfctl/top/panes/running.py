"""Running jobs: how far, how well, how fast, how long still, and which attempt; then what just ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tfctl.render.figures import duration, size
from tfctl.render.jobs import STYLES, latest
from tfctl.top.control import Rows
from tfctl.top.figures import bar, brief, first_of, numbers, where
from tfctl.top.known import Known
from tfctl.top.panes.listing import counted, digits, mark, name, window
from tfctl.top.spans import MUTED, WARNING, Column, Line, Span, clean, exactly, row, total
from trainforge.api import JobView
from trainforge.states import JobState

LOSSES = ("loss", "train_loss", "train/loss", "training_loss", "val_loss")
ACCURACIES = ("accuracy", "acc", "train_accuracy", "train_acc", "train/accuracy", "top1", "val_accuracy")
VALIDATED = ("val_accuracy", "val_acc", "val/accuracy", "val/acc", "test_accuracy", "eval_accuracy")
RATES = ("images_per_second", "images/s", "img/s", "samples_per_second", "samples/s", "throughput")
SHORTEST_BAR, LONGEST_BAR = 9, 30
NAME, LONGEST_NAME = 16, 32


class Field(NamedTuple):
    """A column and how a job fills it. `level`: the higher, the wider a screen it waits for."""

    column: Column
    cell: Callable[[JobView, Known, float], str]
    level: int = 0


def _metric(names: Sequence[str], width: int) -> Callable[[JobView, Known, float], str]:
    return lambda job, known, now: brief(first_of(job.progress, names), width)


def _percent(job: JobView, known: Known, now: float) -> str:
    done = job.progress.fraction if job.progress is not None else None
    return "" if done is None else f"{done:.0%}"


def _phase_or_rate(job: JobView, known: Known, now: float) -> str:
    """While it evaluates, say, the rate of training is an old one."""
    if job.progress is not None and job.progress.phase:
        return clean(job.progress.phase)
    return brief(first_of(job.progress, RATES), 6)


def _cores(job: JobView, known: Known, now: float) -> str:
    return "" if job.usage is None else f"{job.usage.cpu:.1f}"


def _memory(job: JobView, known: Known, now: float) -> str:
    return "" if job.usage is None else size(job.usage.memory)


BEFORE = (
    Field(Column("USER", 10), lambda job, known, now: clean(job.user), 4),
    Field(Column("GPUS", 8), lambda job, known, now: numbers(job.gpu_indices), 2),
)
FIGURES = (
    Field(Column("%", 4, right=True), _percent, 1),
    Field(Column("EPOCH", 9, right=True), lambda job, known, now: where(job.progress)),
    Field(Column("LOSS", 7, right=True), _metric(LOSSES, 7)),
    Field(Column("ACC", 6, right=True), _metric(ACCURACIES, 6)),
    Field(Column("VAL ACC", 7, right=True), _metric(VALIDATED, 7), 3),
    Field(Column("IMG/S", 6, right=True), _phase_or_rate),
)
AFTER = (
    Field(Column("CORES", 5, right=True), _cores, 5),
    Field(Column("MEMORY", 8, right=True), _memory, 5),
    Field(Column("ELAPSED", 9, right=True), lambda job, known, now: duration(known.elapsed(job, now)), 2),
    Field(
        Column("ETA", 8, right=True),
        lambda job, known, now: duration(job.progress.eta if job.progress is not None else None),
    ),
    Field(Column("TRY", 3, right=True), lambda job, known, now: str(job.attempt or "-")),
)
LEVELS = 6


class Fields(NamedTuple):
    """The columns that a screen of some width has room for."""

    title: int  # mark, number and name, with the spaces between
    digits: int
    bar: int
    before: Sequence[Field]
    figures: Sequence[Field]
    after: Sequence[Field]

    @property
    def name(self) -> int:
        return self.title - self.digits - 2

    @property
    def middle(self) -> int:
        """The width of bar and figures."""
        return self.bar + 1 + total([field.column for field in self.figures])


def pane(known: Known, rows: Rows, selected: JobView | None, width: int, count: int, now: float) -> list[Line]:
    """The heading and `count` rows."""
    shown = window(rows.running, count, selected)
    fields = _fit(shown, width)
    live = sum(not job.state.ended for job in rows.running)
    hidden = live - sum(not job.state.ended for job in shown)
    title = counted(live, "RUNNING", hidden, fields.title)
    lines = [_heading(fields, title, width)]
    lines += [exactly(_row(job, known, selected, fields, now), width) for job in shown]
    return lines


def _fit(jobs: Sequence[JobView], width: int) -> Fields:
    """As many columns as fit; what is left over makes names whole and bars long."""
    wide = digits(jobs)

    def of(level: int) -> Fields:
        def chosen(fields: Sequence[Field]) -> list[Field]:
            return [field for field in fields if field.level <= level]

        return Fields(NAME + wide + 2, wide, SHORTEST_BAR, chosen(BEFORE), chosen(FIGURES), chosen(AFTER))

    fields = of(0)
    for level in range(1, LEVELS):
        if _needed(of(level)) > width:
            break
        fields = of(level)
    spare = max(0, width - _needed(fields))
    longest = max((len(job.name) for job in jobs), default=0)
    more = max(0, min(spare, min(longest, LONGEST_NAME) - NAME))
    longer = min(spare - more, LONGEST_BAR - SHORTEST_BAR)
    return fields._replace(title=fields.title + more, bar=SHORTEST_BAR + longer)


def _needed(fields: Fields) -> int:
    others = [field.column for field in (*fields.before, *fields.figures, *fields.after)]
    return fields.title + 1 + fields.bar + 1 + total(others)


def _heading(fields: Fields, title: str, width: int) -> Line:
    columns = [
        Column(title, fields.title),
        *(field.column for field in fields.before),
        Column("PROGRESS", fields.bar),
        *(field.column for field in (*fields.figures, *fields.after)),
    ]
    return exactly(row(columns, [Span(column.title, "bold") for column in columns]), width)


def _row(job: JobView, known: Known, selected: JobView | None, fields: Fields, now: float) -> Line:
    style = MUTED if job.state.ended else ""

    def cells(group: Sequence[Field]) -> list[Span]:
        spans = []
        for field in group:
            text = field.cell(job, known, now)
            spans += [Span(" "), *row([field.column], [Span(text, _style(field, job) or style)])]
        return spans

    titles = [Column("", 1), Column("", fields.digits, right=True), Column("", fields.name)]
    ((marked, number, named), gap) = (
        (mark(job, selected), Span(str(job.id), style), name(job, selected)),
        "",
    )
    title = row(titles[:2], [marked, number], gap)
    return (
        *title,
        Span(" "),
        *row(titles[2:], [named]),
        *cells(fields.before),
        Span(" "),
        *_middle(job, known, fields, now),
        *cells(fields.after),
    )


def _style(field: Field, job: JobView) -> str:
    return WARNING if field.column.title == "TRY" and job.attempt > 1 else ""


def _middle(job: JobView, known: Known, fields: Fields, now: float) -> Line:
    """The bar and the figures; of a job that has none, words in their place."""
    progress = job.progress
    if job.state is not JobState.RUNNING:
        words = f"{job.state}: {clean(job.why)}"
        return exactly((Span(words, STYLES[job.state]),), fields.middle)
    if progress is None or (where(progress) == "" and not progress.metrics):
        return exactly((Span(_alone(job, known, now), MUTED),), fields.middle)
    drawn = bar(progress.fraction, fields.bar)
    columns = [field.column for field in fields.figures]
    known_names = (*LOSSES, *ACCURACIES, *VALIDATED, *RATES)
    if progress.metrics and not any(metric in progress.metrics for metric in known_names):
        return exactly((*drawn, Span(f" {where(progress)}  {clean(latest(progress))}")), fields.middle)
    cells = [Span(field.cell(job, known, now)) for field in fields.figures]
    return (*drawn, Span(" "), *row(columns, cells))


def _alone(job: JobView, known: Known, now: float) -> str:
    """Of a job that reports nothing: for how long it runs, and what it uses."""
    parts = [f"runs for {duration(known.elapsed(job, now))}"]
    if job.usage is not None:
        parts += [f"{job.usage.cpu:.1f} cores", size(job.usage.memory)]
    return ", ".join(parts)
