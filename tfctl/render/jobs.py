"""Jobs as rows: the same words for a pipe and for a terminal, and one job whole."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfctl.render.figures import clock, duration, metric, size
from tfctl.render.settings import environment
from tfctl.render.words import named, one_line, reason, visible
from trainforge.api import AttemptView, JobView, Progress
from trainforge.states import JobState

if TYPE_CHECKING:
    from rich.table import Table

HEADING = ("JOB", "NAME", "USER", "STATE", "REASON", "GPU", "TRY", "PROGRESS", "ETA", "ELAPSED", "SETTINGS")
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
WHOLE = 4000  # characters of a sentence about one job
NAME, SHORT_NAME = 24, 16  # cells
LABELLED, SHORT_LABELLED = 40, 26  # cells of a name with what sets a job apart
WIDE = 100  # columns of a terminal; on a narrower one some are left out
TELLING = ("loss", "val_accuracy", "accuracy")  # shown first where a job reports them


def row(job: JobView) -> tuple[str, ...]:
    """One line of `status` to a pipe. An empty value is a dash, so that columns can be counted."""
    progress = job.progress
    return (
        str(job.id),
        job.name,
        job.user,
        job.state,
        job.reason if job.reason and job.reason != job.state else "-",
        gpus(job),
        str(job.attempt) if job.attempt else "-",
        position(progress) or "-",
        duration(eta(job)),
        duration(job.elapsed) if job.attempt else "-",
        job.label or "-",
    )


def gpus(job: JobView) -> str:
    """Which GPUs it holds, or how many it asked for."""
    if job.gpu_indices and job.state.live:
        return "#" + ",".join(map(str, job.gpu_indices))
    return str(job.resources.gpu)


def eta(job: JobView) -> float | None:
    """Seconds left, once the attempt that runs has reported: what an earlier one said holds no more."""
    progress = job.progress
    if progress is None or job.state not in (JobState.RUNNING, JobState.STOPPING):
        return None
    began = job.attempts[-1].started_at if job.attempts else None
    return None if began and progress.time and progress.time < began else progress.eta


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
    """The table for a terminal of this width. On a narrow one, how far a job is stands among what to know of
    it, so that there is room for why a job waits."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    wide = width >= WIDE
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, expand=True, show_edge=False)
    table.add_column("JOB", justify="right", no_wrap=True)
    table.add_column("NAME", no_wrap=True)
    table.add_column("STATE", no_wrap=True)
    table.add_column("GPU", no_wrap=True)
    if wide:
        table.add_column("PROGRESS", no_wrap=True)
        table.add_column("ETA", justify="right", no_wrap=True)
        table.add_column("ELAPSED", justify="right", no_wrap=True)
    table.add_column("NOW", no_wrap=True, overflow="ellipsis", ratio=1)
    cut = _widest_name(jobs, wide)
    every = [_shown(job, cut) for job in jobs]
    room = _left(every, width, (0, 3, 5, 7, 8, 9) if wide else (0, 3, 5), cut)
    for job, cells in zip(jobs, every, strict=True):
        shown = [Text(cells[0]), Text(cells[1]), Text(job.state, STYLES[job.state]), Text(cells[5])]
        shown += map(Text, cells[7:10]) if wide else ()
        table.add_row(*shown, Text(visible(now(job, room, brief=wide))))
    return table


def _widest_name(jobs: Sequence[JobView], wide: bool) -> int:
    if any(job.label for job in jobs):
        return LABELLED if wide else SHORT_LABELLED
    return NAME if wide else SHORT_NAME


def _shown(job: JobView, cut: int) -> tuple[str, ...]:
    """The row of a pipe, but for the name: cut, and with the job's label."""
    cells = [visible(cell) for cell in row(job)]
    cells[1] = named(cells[1], visible(job.label), cut)
    return tuple(cells)


def _left(rows: Sequence[Sequence[str]], width: int, columns: Sequence[int], name: int) -> int:
    """Cells that are left for the last column beside these and a name."""
    from rich.cells import cell_len

    def widest(column: int) -> int:
        return max((cell_len(cells[column]) for cells in rows), default=0)

    return max(20, width - min(name, widest(1)) - sum(map(widest, columns)) - 2 * (len(columns) + 1))


def now(job: JobView, room: int, *, brief: bool) -> str:
    """What to know of a job in a few words: its latest figures, or why it is where it is. `brief`: how far
    it is stands elsewhere."""
    if job.state is JobState.RUNNING:
        if job.waste is not None:
            return one_line(job.waste.sentence)
        phase = f"{job.progress.phase}…" if job.progress is not None and job.progress.phase else ""
        left = f"{duration(eta(job))} left" if eta(job) is not None else ""
        figures = phase or latest(job.progress)
        parts = (figures,) if brief else (position(job.progress), left, figures)
        return "  ".join(filter(None, parts)) or one_line(job.why)
    if job.state in (JobState.SUCCEEDED, JobState.CANCELLED):
        return latest(job.progress)
    words = one_line(job.why)
    if job.state is JobState.FAILED:  # "failed (user error): …": the state stands elsewhere
        return words.removeprefix("failed (").replace("): ", ": ", 1)
    return reason(words, room)


def whole(job: JobView) -> list[tuple[str, str]]:
    """Everything about one job, as (label, value)."""
    word = f" ({job.reason})" if job.reason and job.reason != job.state else ""
    out = [("state", f"{job.state}{word}"), ("why", one_line(job.why, WHOLE))]
    if job.description:
        out.append(("about", job.description))
    out.append(("user", job.user))
    out += _running(job.spec or {})
    if job.root is not None:
        out.append(("project", job.root))
    if job.workdir is not None:
        out.append(("in place", f"{job.workdir}, which it shares with you"))
    out.append(("asked for", _asked(job)))
    if job.gpu_indices and (job.state.live or job.state.ended):
        numbers = ", ".join(f"#{index}" for index in job.gpu_indices)
        out.append(("GPUs" if job.state.live else "had GPUs", numbers))
    if variables := environment(job):
        out.append(("env", shlex.join(f"{name}={value}" for name, value in variables.items())))
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
    if job.waste is not None:
        out.append(("waste", one_line(job.waste.sentence)))
    out += _getting_on(job)
    out += [(f"attempt {a.number}", _attempt(a)) for a in job.attempts or ()]
    out.append(("files", job.dir))
    return out


def _running(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What it runs, and after which jobs."""
    training, schedule = spec.get("training") or {}, spec.get("schedule") or {}
    words = training.get("command") or [training.get("script"), *(training.get("args") or ())]
    out = [("runs", one_line(shlex.join(map(str, words))))] if words[0] else []
    waits = ((key, schedule.get(key) or ()) for key in ("after", "afterany", "afternotok"))
    return out + [(key, ", ".join(f"job {job}" for job in jobs)) for key, jobs in waits if jobs]


def _asked(job: JobView) -> str:
    memory = f", {size(job.resources.memory)} of memory" if job.resources.memory else ""
    limit = f", at most {duration(job.time_limit)}" if job.time_limit else ""
    return f"gpu {job.resources.gpu}, cpu {job.resources.cpu}{memory}, priority {job.priority}{limit}"


def _getting_on(job: JobView) -> list[tuple[str, str]]:
    out = []
    if job.progress is not None:
        left = f", about {duration(eta(job))} left" if eta(job) else ""
        phase = f" ({job.progress.phase})" if job.progress.phase else ""
        out.append(("progress", (position(job.progress) or "reported nothing yet") + phase + left))
        if job.progress.metrics:
            out.append(("latest", latest(job.progress, most=8)))
    if job.usage is not None:
        use = job.usage
        processes = f"{use.processes} process{'' if use.processes == 1 else 'es'}"
        network = (
            f", {size(use.received)} received and {size(use.sent)} sent over TCP"
            if use.received is not None and use.sent is not None
            else ""
        )
        out.append(("uses", f"{use.cpu:.1f} cores, {size(use.memory)}, {processes}{network}"))
    return out


def _attempt(attempt: AttemptView) -> str:
    began = clock(attempt.started_at)
    resumed = f", continued from {attempt.resumed_from.rsplit('/', 1)[-1]}" if attempt.resumed_from else ""
    if attempt.ended_at is None:
        return f"since {began}{resumed}"
    took = duration((attempt.ended_at - attempt.started_at).total_seconds())
    return f"{began}, {took}{resumed}: {attempt.reason}, {one_line(attempt.message or '')}"
