"""Where a job stands, and how long it still takes, from what it reported. Pure.

The rate is measured within one attempt, from its first report on: starting up, compiling and loading
data do not count. The window is the newest quarter of the attempt, ten minutes at least: the
rate follows what changed, and is not misled by a pause for evaluation.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from trainforge.api import Progress
from trainforged.storage.recordlines import Phase, Record, Report

MOST_MARKS = 64
WINDOW = 0.25  # of the attempt's time
SHORTEST_WINDOW = 600.0  # seconds
SET_BACK = 2.0  # seconds: a report that is so much older than the one before is of a clock that was set
MOST_METRICS = 256  # latest values shown with the progress
MOST_PHASES = 16  # nested in each other

Source = Literal["report", "events", "output"]
"""Where a position is known from: the job said it, its TensorBoard files or its output show it."""
SOURCES: tuple[Source, ...] = ("report", "events", "output")  # the first that speaks counts


class Mark(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The position at one moment."""

    time: float
    step: float | None
    epoch: float | None


class Pace(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of an attempt's reports to measure its rate."""

    marks: tuple[Mark, ...] = ()  # oldest first, the first report's among them, thinned as they grow old
    spacing: float = 0.0  # least seconds between two of them
    last: Mark | None = None
    turns: tuple[Mark, ...] = ()  # the first and the newest report of an epoch that had just begun
    resets: bool = False  # `step` counts within an epoch


class Tracked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job's latest position. `progress` has neither `eta` nor `fraction`: see `shown`."""

    attempt: int
    progress: Progress = Progress()
    pace: Pace = Pace()
    phases: tuple[str, ...] = ()  # announced and not yet ended, the innermost last
    source: Source = "report"


def advance(
    tracked: Tracked | None, attempt: int, records: Sequence[Record], source: Source = "report"
) -> Tracked:
    """`tracked` after these records of rank 0 of `attempt`.

    A new attempt begins a new pace, but keeps the metrics. What an earlier attempt said comes too
    late and changes nothing; nor does what a later source says than the one that has spoken.
    """
    reports = [record for record in records if isinstance(record, Report)]
    if tracked is None:
        tracked = Tracked(attempt=attempt, source=source if reports else SOURCES[-1])
    if attempt < tracked.attempt:
        return tracked
    if reports and SOURCES.index(source) > SOURCES.index(tracked.source):
        return tracked
    if attempt > tracked.attempt:
        metrics = tracked.progress.metrics
        tracked = Tracked(attempt=attempt, progress=Progress(metrics=metrics), source=tracked.source)
    if reports and source != tracked.source:
        tracked = Tracked(attempt=attempt, phases=tracked.phases, source=source)
    phases = _phases(tracked.phases, records)
    progress = _progress(tracked.progress, reports)
    return Tracked(
        attempt=attempt,
        progress=msgspec.structs.replace(progress, phase=phases[-1] if phases else None),
        pace=_paced(tracked.pace, reports),
        phases=phases,
        source=tracked.source,
    )


def shown(tracked: Tracked, now: float | None = None) -> Progress:
    """The progress with the time left at `now` (None: at the last report) and the fraction done."""
    return msgspec.structs.replace(
        tracked.progress,
        eta=eta(tracked.pace, tracked.progress, now),
        fraction=fraction(tracked.pace, tracked.progress),
    )


def eta(pace: Pace, progress: Progress, now: float | None = None) -> float | None:
    """Seconds left at `now` (None: at the last report), or None where the rate or the end is not known.

    By steps where their total is known or follows from `epochs`; else by epochs, of which the one just
    reported counts as not yet done.
    """
    total = _all_steps(pace, progress)
    if total is not None and progress.step is not None and pace.last is not None:
        left, rate, since = total - progress.step, _steps_per_second(pace), pace.last.time
    elif progress.epochs is not None and pace.turns and (epoch := pace.turns[-1].epoch) is not None:
        left, rate, since = progress.epochs - epoch, _epochs_per_second(pace), pace.turns[-1].time
    else:
        return None
    if left <= 0:
        return 0.0
    if rate is None or rate <= 0:
        return None
    gone = 0.0 if now is None else max(0.0, now - since)
    return max(0.0, left / rate - gone)


def fraction(pace: Pace, progress: Progress) -> float | None:
    """How much is done, 0 … 1, or None where the end is not known."""
    total = _all_steps(pace, progress)
    if total and progress.step is not None:
        return min(1.0, max(0.0, progress.step / total))
    if progress.epochs and progress.epoch is not None:
        return min(1.0, max(0.0, progress.epoch / progress.epochs))
    return None


# ---------------------------------------------------------------- the end and the rate


def _all_steps(pace: Pace, progress: Progress) -> float | None:
    """The number of the last step, where steps count through the whole training."""
    if pace.resets:
        return None
    if progress.steps is not None:
        return progress.steps
    each = _steps_per_epoch(pace)
    return each * progress.epochs if each is not None and progress.epochs is not None else None


def _epoch_marks(pace: Pace) -> tuple[Mark, Mark] | None:
    """Two marks a whole number of epochs apart, as far as is known: beginnings of epochs, or, before
    there are two, the attempt's first report, which mostly is one too."""
    if not pace.turns or not pace.marks:
        return None
    first = pace.turns[0] if pace.turns[0] != pace.turns[-1] else pace.marks[0]
    return first, pace.turns[-1]


def _steps_per_epoch(pace: Pace) -> float | None:
    marks = _epoch_marks(pace)
    if marks is None:
        return None
    epochs = _difference(marks[0].epoch, marks[1].epoch)
    steps = _difference(marks[0].step, marks[1].step)
    return steps / epochs if epochs and steps and epochs > 0 and steps > 0 else None


def _steps_per_second(pace: Pace) -> float | None:
    last = pace.last
    if last is None or last.step is None or not pace.marks:
        return None
    since = last.time - max(SHORTEST_WINDOW, (last.time - pace.marks[0].time) * WINDOW)
    for mark in pace.marks:
        if mark.time >= since and mark.step is not None and mark.time < last.time:
            return (last.step - mark.step) / (last.time - mark.time)
    return None


def _epochs_per_second(pace: Pace) -> float | None:
    marks = _epoch_marks(pace)
    if marks is None:
        return None
    epochs = _difference(marks[0].epoch, marks[1].epoch)
    seconds = marks[1].time - marks[0].time
    return epochs / seconds if epochs and seconds > 0 else None


def _difference(first: float | None, last: float | None) -> float | None:
    return last - first if first is not None and last is not None else None


# ---------------------------------------------------------------- taking in reports


def _progress(progress: Progress, reports: Sequence[Report]) -> Progress:
    if not reports:
        return progress
    latest: dict[str, int | float] = {}
    metrics: dict[str, float] = {}
    for report in reports:
        for name in ("step", "steps", "epoch", "epochs"):
            if (value := getattr(report, name)) is not None:
                latest[name] = _whole(value)
        metrics.update(report.metrics)
    merged = progress.metrics | {name: v if math.isfinite(v) else None for name, v in metrics.items()}
    time = datetime.datetime.fromtimestamp(reports[-1].time, datetime.UTC)
    kept = dict(list(merged.items())[:MOST_METRICS])
    return msgspec.structs.replace(progress, metrics=kept, time=time, **latest)


def _whole(value: float) -> int | float:
    """40 for 40.0: programs that read the API count in whole steps."""
    return int(value) if abs(value) < 2**53 and value == int(value) else value


def _phases(phases: tuple[str, ...], records: Sequence[Record]) -> tuple[str, ...]:
    for record in records:
        if not isinstance(record, Phase):
            continue
        if record.state == "begin":
            phases = (*phases, record.name[:100])[-MOST_PHASES:]
        elif record.name[:100] in phases:
            phases = phases[: len(phases) - 1 - phases[::-1].index(record.name[:100])]
    return phases


def _paced(pace: Pace, reports: Sequence[Report]) -> Pace:
    marks, last, turns, resets = pace.marks, pace.last, pace.turns, pace.resets
    for report in reports:
        if report.step is None and report.epoch is None:
            continue
        mark = _mark(report, last)
        if last is None:
            marks = (mark,)
        else:
            resets = resets or (mark.step is not None and last.step is not None and mark.step < last.step)
            if mark.epoch is not None and (last.epoch is None or mark.epoch > last.epoch):
                turns = (*turns[:1], mark)
            if mark.time < last.time - SET_BACK:
                marks, turns = (mark,), ()
        last = mark
    if last is None:
        return pace
    marks, spacing = _thinned(marks, last, pace.spacing)
    return Pace(marks=marks, spacing=spacing, last=last, turns=turns, resets=resets)


def _mark(report: Report, last: Mark | None) -> Mark:
    """A report of one of step and epoch leaves the other where it was."""
    step = report.step if report.step is not None or last is None else last.step
    epoch = report.epoch if report.epoch is not None or last is None else last.epoch
    return Mark(report.time, step, epoch)


def _thinned(marks: tuple[Mark, ...], last: Mark, spacing: float) -> tuple[tuple[Mark, ...], float]:
    """`marks` with `last`, if it is `spacing` away; of too many every second one stays."""
    if last == marks[-1] or last.time < marks[-1].time + spacing:
        return marks, spacing
    marks = (*marks, last)
    if len(marks) <= MOST_MARKS:
        return marks, spacing
    return marks[::2], 2 * max(spacing, (last.time - marks[0].time) / MOST_MARKS)
