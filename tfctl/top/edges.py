"""The first and the last row: how the machine stands, and what the keys do or a question to answer."""

from __future__ import annotations

import datetime

from tfctl.render.figures import clock, size
from tfctl.top.control import Ask, View
from tfctl.top.known import Known
from tfctl.top.spans import BAD, MUTED, STRONG, WARNING, Line, Span, apart, clean, exactly, width_of
from trainforge.api import JobView, StatusAnswer
from trainforge.states import JobState

LITTLE_DISK = 5 * 2**30
READ = 6.0  # seconds that a notice stays

KEYS = (
    ("q", "quit"),
    ("↑↓", "choose"),
    ("l", "log"),
    ("c", "cancel"),
    ("h", "hold or release"),
    ("s", "sort"),
    ("?", "help"),
)


def header(known: Known, width: int, now: datetime.datetime) -> Line:
    """Counts on the left, the time on the right; that the daemon is away matters more than both."""
    title = Span("TrainForge", STRONG)
    time = (Span(f"{now.astimezone():%H:%M:%S}"),)
    if known.away_since is not None:
        words = f"  daemon away since {clock(known.away_since)}, waiting for it"
        return apart((title, Span(words, f"bold {WARNING}")), time, width)
    if known.looked is None:
        return apart((title, Span("  connecting …", MUTED)), time, width)
    status = known.looked.status
    left = (title, *_disk(status), *_gpus(known), *_jobs(status))
    right = (*_machine(status), *time)
    return apart(left, right if width_of(left) + width_of(right) + 2 <= width else time, width)


def _gpus(known: Known) -> Line:
    every = known.gpus.gpus if known.gpus is not None else ()
    free = sum(gpu.state == "free" for gpu in every)
    made_up = "simulated " if any(gpu.simulated for gpu in every) else ""
    return (Span(f"  {len(every)} {made_up}GPU{'' if len(every) == 1 else 's'}, {free} free"),)


def _jobs(status: StatusAnswer) -> Line:
    counts = status.jobs
    running = counts.starting + counts.running + counts.stopping + counts.unknown
    out = [Span(f"  {running} running", "green" if running else MUTED)]
    out.append(Span(f"  {counts.queued} queued", "" if counts.queued else MUTED))
    out += [
        Span(f"  {count} {word}", WARNING)
        for count, word in ((counts.backoff, "backoff"), (counts.held, "held"))
        if count
    ]
    return tuple(out)


def _disk(status: StatusAnswer) -> Line:
    """Said when the disk is nearly full, before all else."""
    return (Span(f"  {size(status.disk_free)} of disk left", BAD),) if status.disk_free < LITTLE_DISK else ()


def _machine(status: StatusAnswer) -> Line:
    cores = f"{status.cpu_free}/{status.cpu_total} cores free"
    memory = f"{size(status.memory_free)} of memory free"
    words = f"{cores}  {memory}  load {status.load[0]:.1f}  "
    return (Span(words, MUTED),)


def footer(known: Known, view: View, selected: JobView | None, width: int, now: float) -> Line:
    """A question, else what came of the last order, else the keys."""
    if view.confirming is not None:
        return exactly((Span(question(view, known), f"bold {WARNING}"),), width)
    notice = known.notice
    if notice is not None and now - notice.at < READ:
        return exactly((Span(clean(notice.text), BAD if notice.bad else STRONG),), width)
    if view.helping:
        return exactly((Span("any key goes back", MUTED),), width)
    out: list[Span] = []
    held = selected is not None and selected.state is JobState.HELD
    for key, does in KEYS:
        words = {"s": f"sort: {view.order}", "h": "release" if held else "hold"}.get(key, does)
        out += [Span(key, STRONG), Span(f" {words}   ", MUTED)]
    return exactly(out, width)


def question(view: View, known: Known) -> str:
    """What y would do."""
    assert view.confirming is not None
    ask, number = view.confirming
    job = known.jobs.get(number)
    named = f"job {number} ({job.name})" if job is not None else f"job {number}"
    then = " It saves, stops and frees its GPUs." if ask is Ask.HOLD else ""
    return f"{ask} {named}?{then}  y / n"
