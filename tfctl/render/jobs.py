"""Jobs as rows: the same words for a pipe and for a terminal, and one job whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfctl.render.figures import clock, duration, metric, size
from trainforge.api import AttemptView, JobView, Progress
from trainforge.states import JobState

if TYPE_CHECKING:
    from rich.table import Table

HEADING = ("JOB", "NAME", "USER", "STATE", "REASON", "GPU", "TRY", "PROGRESS", "ETA", "ELAPSED")
RIGHT = (0, 6, 8, 9)
STYLES = {
    JobState.RUNNING: "green",
    JobState.STARTING: "green",
    JobState.STOPPING: "yellow",
    JobState.QUEUED: "cyan",
    JobState.BACKOFF: "yellow",
    JobState.HELD: "yellow",
    JobState.UNKNOWN: "magenta",
    JobState.SUCCEEDED: "bright_black",
    JobState.FAILED: "red",
    JobState.CANCELLED: "bright_black",
}
MOST_METRICS = 3
TELLING = ("loss", "val_accuracy", "accuracy")  # shown first where a job reports them


def row(job: JobView) -> tuple[str, ...]:
    """One line of `status` to a pipe. An empty value is a dash, so that columns can be counted."""
    progress = job.progress
    return (
        str(job.id),
        job.name,
        job.user,
        job.state,
        job.reason or "-",
        gpus(job),
        str(job.attempt) if job.attempt else "-",
        position(progress) or "-",
        duration(progress.eta) if progress is not None and job.state.live else "-",
        duration(job.elapsed) if job.attempt else "-",
    )


def gpus(job: JobView) -> str:
    """Which GPUs it holds, or how many it asked for."""
    if job.gpu_indices and job.state.live:
        return "#" + ",".join(map(str, job.gpu_indices))
    return str(job.resources.gpu)


def position(progress: Progress | None) -> str:
    """`epoch 45/200`, `step 1200`; empty where nothing was reported."""
    if progress is None:
        return ""
    for name, at, end in (
        ("epoch", progress.epoch, progress.epochs),
        ("step", progress.step, progress.steps),
    ):
        if at is not None:
            return f"{name} {metric(at)}" + (f"/{metric(end)}" if end is not None else "")
    return ""


def latest(progress: Progress | None, names: Sequence[str] = TELLING, most: int = MOST_METRICS) -> str:
    """`loss 1.2  accuracy 0.61`: the latest values, those of `names` first."""
    if progress is None:
        return ""
    order = [name for name in names if name in progress.metrics]
    order += [name for name in progress.metrics if name not in order]
    return "  ".join(f"{name} {metric(progress.metrics[name])}" for name in order[:most])


def terminal_table(jobs: Sequence[JobView], width: int) -> Table:
    """The table for a terminal of this width: what tells least is left out first."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, expand=True, show_edge=False)
    table.add_column("JOB", justify="right", no_wrap=True)
    table.add_column("NAME", no_wrap=True, max_width=24, overflow="ellipsis")
    table.add_column("STATE", no_wrap=True)
    table.add_column("GPU", no_wrap=True)
    table.add_column("PROGRESS", no_wrap=True)
    table.add_column("ETA", justify="right", no_wrap=True)
    if width >= 100:
        table.add_column("ELAPSED", justify="right", no_wrap=True)
    table.add_column("NOW", no_wrap=True, overflow="ellipsis", ratio=1)
    for job in jobs:
        cells = row(job)
        shown: list[str | Text] = [
            cells[0],
            cells[1],
            Text(job.state, STYLES[job.state]),
            cells[5],
            cells[7],
            cells[8],
        ]
        shown += [cells[9]] if width >= 100 else []
        table.add_row(*shown, now(job))
    return table


def now(job: JobView) -> str:
    """What to know of a job in a few words: its latest figures, or why it is where it is."""
    if job.state is JobState.RUNNING:
        phase = job.progress.phase if job.progress is not None else None
        return f"{phase}…" if phase else latest(job.progress) or job.why
    if job.state is JobState.SUCCEEDED:
        return latest(job.progress)
    return job.why


def whole(job: JobView) -> list[tuple[str, str]]:
    """Everything about one job, as (label, value)."""
    out = [("state", f"{job.state}{f' ({job.reason})' if job.reason else ''}"), ("why", job.why)]
    if job.description:
        out.append(("about", job.description))
    out.append(("user", job.user))
    out.append(("asked for", _asked(job)))
    if job.gpu_indices:
        out.append(("GPUs", ", ".join(map(str, job.gpu_indices))))
    if job.base_image:
        out.append(("base image", f"{job.base_image} (recorded)"))
    if job.git is not None:
        out.append(("commit", job.git.commit[:12] + (" with changes" if job.git.dirty else "")))
    out.append(("submitted", clock(job.submitted_at)))
    if job.started_at is not None:
        ended = f", ended {clock(job.ended_at)}" if job.ended_at is not None else ""
        out.append(("started", f"{clock(job.started_at)}{ended}, {duration(job.elapsed)} in all"))
    if job.exit_code is not None:
        out.append(("exit code", str(job.exit_code)))
    out += _getting_on(job)
    out += [(f"attempt {a.number}", _attempt(a)) for a in job.attempts or ()]
    out.append(("files", job.dir))
    return out


def _asked(job: JobView) -> str:
    memory = f", {size(job.resources.memory)} of memory" if job.resources.memory else ""
    limit = f", at most {duration(job.time_limit)}" if job.time_limit else ""
    return f"gpu {job.resources.gpu}, cpu {job.resources.cpu}{memory}, priority {job.priority}{limit}"


def _getting_on(job: JobView) -> list[tuple[str, str]]:
    out = []
    if job.progress is not None:
        eta = f", about {duration(job.progress.eta)} left" if job.progress.eta and job.state.live else ""
        phase = f" ({job.progress.phase})" if job.progress.phase else ""
        out.append(("progress", (position(job.progress) or "reported nothing yet") + phase + eta))
        if job.progress.metrics:
            out.append(("latest", latest(job.progress, most=8)))
    if job.usage is not None:
        use = job.usage
        out.append(("uses", f"{use.cpu:.1f} cores, {size(use.memory)}, {use.processes} processes"))
    return out


def _attempt(attempt: AttemptView) -> str:
    began = clock(attempt.started_at)
    resumed = f", continued from {attempt.resumed_from.rsplit('/', 1)[-1]}" if attempt.resumed_from else ""
    if attempt.ended_at is None:
        return f"since {began}{resumed}"
    took = duration((attempt.ended_at - attempt.started_at).total_seconds())
    return f"{began}, {took}{resumed}: {attempt.reason}, {attempt.message}"
