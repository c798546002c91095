"""Jobs, GPUs and answers for tests of the live view."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from tfctl.top.control import View
from tfctl.top.frame import Now, Size, frame
from tfctl.top.known import Began, Known, Looked
from tfctl.top.spans import Line
from trainforge.api import (
    Counts,
    EventView,
    GpuHistory,
    GpuList,
    GpuView,
    JobView,
    Progress,
    ResourceView,
    StatusAnswer,
    Usage,
)
from trainforge.states import ENDED, JobState

T = TypeVar("T", bound=msgspec.Struct)
GIB = 2**30
TODAY = datetime.datetime(2026, 11, 22, 10, tzinfo=datetime.UTC)
NOW = Now(1000.0, TODAY)
WHY = "waits for 4 GPUs: 2 free; job 11 holds GPU 2, 3 (about 40 min left)"


def job(id: int, state: JobState = JobState.RUNNING, **fields: Any) -> JobView:
    held = state is JobState.RUNNING
    whole: dict[str, Any] = {
        "id": id, "name": f"job-{id}", "user": "alice", "state": state, "reason": None, "priority": 0,
        "submitted_at": TODAY - datetime.timedelta(minutes=5), "started_at": TODAY if held else None,
        "ended_at": TODAY if state in ENDED else None,
        "resources": ResourceView(gpu=1, cpu=4, memory=None), "gpus": (), "gpu_indices": (),
        "attempt": 0 if state in (JobState.QUEUED, JobState.HELD) else 1, "retries": 0,
        "exit_code": None, "git": None, "progress": None, "usage": None,
        "why": "runs (attempt 1)" if held else WHY, "dir": f"/state/jobs/{id}", "elapsed": 60.0,
    } | fields  # fmt: skip
    return JobView(**whole)


def training(id: int, done: float = 0.25, **fields: Any) -> JobView:
    """A job in the middle of its training."""
    progress = Progress(
        step=4500.0, epoch=200 * done, epochs=200.0, eta=5400.0, fraction=done,
        metrics={"loss": 1.234567, "accuracy": 0.61234, "images_per_second": 1234.5},
    )  # fmt: skip
    return job(id, progress=fields.pop("progress", progress), usage=Usage(cpu=3.8, memory=4 * GIB), **fields)


def gpu(index: int, **fields: Any) -> GpuView:
    whole: dict[str, Any] = {
        "uuid": f"GPU-{index}", "index": index, "name": "H100", "pci": None, "memory_total": 80 * GIB,
        "memory_used": 40 * GIB, "utilisation": 97, "temperature": 71, "power": 512.4,
        "power_limit": 700.0, "processes": (), "state": "free", "reason": None, "job": None,
        "simulated": False,
    } | fields  # fmt: skip
    return GpuView(**whole)


def history(count: int = 60, every: float = 10.0) -> GpuHistory:
    """A GPU that grew from idle to busy."""
    figures = tuple(100 * n // max(1, count - 1) for n in range(count))
    return GpuHistory(
        every=every,
        utilisation=figures,
        memory=tuple(figure * GIB * 80 // 100 for figure in figures),
        temperature=figures,
        power=tuple(map(float, figures)),
    )


def event(
    id: int, type: str = "attempt_started", job: int | None = 1, message: str = "attempt 1 started"
) -> EventView:
    return EventView(id=id, time=TODAY, type=type, job=job, message=message)


def status(jobs: Sequence[JobView], **counts: int) -> StatusAnswer:
    found = {str(state): sum(job.state is state for job in jobs) for state in JobState}
    return StatusAnswer(
        version="1", pid=1, started_at=TODAY, uptime=1.0, user="alice", state_dir="/state",
        simulated=False, jobs=Counts(**(found | counts)), gpus_total=8, gpus_free=0, cpu_total=64,
        cpu_free=60, memory_total=100 * GIB, memory_free=50 * GIB, load=(1.5, 1.0, 1.0),
        disk_free=1000 * GIB, last_event=0,
    )  # fmt: skip


def looked(*jobs: JobView, **counts: int) -> Looked:
    """A look that found these jobs, the waiting ones in this order."""
    live = tuple(job for job in jobs if job.state.live)
    ended = tuple(job for job in jobs if job.state.ended)
    waiting = tuple(job for job in jobs if not job.state.live and not job.state.ended)
    return Looked(at=NOW.ticks, status=status(jobs, **counts), live=live, waiting=waiting, ended=ended)


def known(
    *jobs: JobView, gpus: Sequence[GpuView] = (), events: Sequence[EventView] = (), **counts: int
) -> Known:
    """What the view knows after its first looks."""
    out = Known()
    out.take(Began(at=NOW.ticks, gpus=GpuList(gpus=tuple(gpus)), events=tuple(events)))
    out.take(looked(*jobs, **counts))
    return out


def busy() -> Known:
    """Eight GPUs, eight running jobs, a queue, events: what a screen of 80×24 has to hold."""
    running = [training(n, gpu_indices=(n - 1,), name=f"cifar100-resnet{n}") for n in range(1, 9)]
    queue = [job(n, JobState.QUEUED) for n in range(9, 23)]
    gpus = [gpu(n, state="leased", job=n + 1, history=history()) for n in range(8)]
    return known(*running, *queue, gpus=gpus, events=[event(n, job=n) for n in range(1, 40)])


def text(line: Line) -> str:
    return "".join(span.text for span in line)


def screen(known: Known, width: int = 80, height: int = 24, view: View | None = None) -> list[str]:
    """The frame as text."""
    return [text(line) for line in frame(known, view or View(), Size(width, height), NOW)]


def row_of(line: str) -> str:
    """The line with single spaces."""
    return " ".join(line.split())


def replaced(whole: T, **fields: Any) -> T:
    return msgspec.structs.replace(whole, **fields)
