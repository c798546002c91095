"""The columns of running jobs: what each shows, and which of them a screen of some width has room for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tfctl.render.figures import duration, size
from tfctl.render.jobs import eta
from tfctl.top.figures import first_of, numbers, where
from tfctl.top.known import Known
from tfctl.top.panes.listing import digits, longest_name, users
from tfctl.top.spans import Column, clean, total
from trainforge.api import JobView

LOSSES = ("loss", "train_loss", "train/loss", "training_loss", "val_loss")
VALIDATED = ("val_accuracy", "val_acc", "val/accuracy", "val/acc", "test_accuracy", "eval_accuracy")
ACCURACIES = ("accuracy", "acc", "train_accuracy", "train_acc", "train/accuracy", "top1", *VALIDATED)
RATES = ("images_per_second", "images/s", "img/s", "samples_per_second", "samples/s", "throughput")
SHORTEST_BAR, LONGEST_BAR = 9, 40
SHORTEST_NAME, LONGEST_NAME = 16, 40

Cell = Callable[[JobView, Known, float], str]
"""(job, what is known, now) → the text."""


class Field(NamedTuple):
    """A column and what a job has in it. `level`: the higher, the wider a screen it waits for."""

    column: Column
    cell: Cell
    level: int = 0


def _metric(names: Sequence[str], width: int) -> Cell:
    return lambda job, known, now: first_of(job.progress, names, width)


def _percent(job: JobView, known: Known, now: float) -> str:
    done = job.progress.fraction if job.progress is not None else None
    return "" if done is None else f"{done:.0%}"


def _rate_or_phase(job: JobView, known: Known, now: float) -> str:
    """While it evaluates, say, the rate of training is an old one."""
    if job.progress is not None and job.progress.phase:
        return clean(job.progress.phase)
    return first_of(job.progress, RATES, 6)


def _eta(job: JobView, known: Known, now: float) -> str:
    return duration(eta(job))


def _elapsed(job: JobView, known: Known, now: float) -> str:
    return duration(known.elapsed(job, now))


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
    Field(Column("IMG/S", 6, right=True), _rate_or_phase),
)
AFTER = (
    Field(Column("CORES", 5, right=True), _cores, 5),
    Field(Column("MEMORY", 8, right=True), _memory, 5),
    Field(Column("ELAPSED", 9, right=True), _elapsed, 2),
    Field(Column("ETA", 8, right=True), _eta),
    Field(Column("TRY", 3, right=True), lambda job, known, now: str(job.attempt or "-")),
)
LEVELS = range(6)


class Fields(NamedTuple):
    """The columns of one screen. The first three are widths; `name` follows the number."""

    digits: int
    name: int
    bar: int
    before: Sequence[Field]
    figures: Sequence[Field]
    after: Sequence[Field]

    @property
    def title(self) -> int:
        """The width of mark, number and name."""
        return 1 + self.digits + 1 + self.name

    @property
    def middle(self) -> int:
        """The width of bar and figures."""
        return self.bar + 1 + total([field.column for field in self.figures])

    @property
    def width(self) -> int:
        others = [field.column for field in (*self.before, *self.after)]
        return self.title + 1 + self.middle + 1 + total(others)


def fields_for(jobs: Sequence[JobView], width: int) -> Fields:
    """As many columns as fit; what is left over makes names whole and bars long."""
    fields = _of(0, jobs)
    for level in LEVELS:
        wider = _of(level, jobs)
        if wider.width > width:
            break
        fields = wider
    spare = max(0, width - fields.width)
    name = max(0, min(spare, min(longest_name(jobs), LONGEST_NAME) - SHORTEST_NAME))
    bar = min(spare - name, LONGEST_BAR - SHORTEST_BAR)
    return fields._replace(name=fields.name + name, bar=fields.bar + bar)


def _of(level: int, jobs: Sequence[JobView]) -> Fields:
    def chosen(fields: Sequence[Field]) -> list[Field]:
        return [field for field in fields if field.level <= level]

    before = BEFORE if users(jobs) > 1 else BEFORE[1:]
    return Fields(digits(jobs), SHORTEST_NAME, SHORTEST_BAR, chosen(before), chosen(FIGURES), chosen(AFTER))
