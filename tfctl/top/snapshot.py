"""The view once, as plain text for a pipe: nothing is cut but the number of events and of waiting jobs."""

from __future__ import annotations

from tfctl.render import jobs as job_rows
from tfctl.render.figures import clock, counted, size
from tfctl.render.gpus import HEADING as MEASURED
from tfctl.render.gpus import measured
from tfctl.render.plain import table
from tfctl.render.words import one_line
from tfctl.top.source import first_look, look_at_jobs
from trainforge.api import EventView, GpuView, JobView
from trainforge.client.client import Client

MOST_WAITING = 1000
EVENTS = 20
GPUS = ("GPU", "STATE", "JOB", *MEASURED, "REASON")
RUNNING = ("JOB", "NAME", "USER", "STATE", "GPU", "TRY", "PROGRESS", "ETA", "ELAPSED", "SETTINGS", "LATEST")
WAITING = ("JOB", "NAME", "USER", "STATE", "GPU", "SETTINGS", "WHY")


def snapshot(client: Client) -> str:
    """Tables of GPUs, running jobs, waiting jobs and events, with an empty line between."""
    began = first_look(client, 0.0)
    looked = look_at_jobs(client, MOST_WAITING)
    counts = looked.status.jobs
    free = sum(gpu.state == "free" for gpu in began.gpus.gpus)
    waiting = counts.queued + counts.backoff + counts.held
    parts = [
        f"{counted(len(began.gpus.gpus), 'GPU')}, {free} free; "
        f"{len(looked.live)} running, {waiting} waiting; "
        f"{looked.status.cpu_free} of {counted(looked.status.cpu_total, 'core')} free, "
        f"{size(looked.status.memory_free)} of memory free",
        table(GPUS, [_gpu(gpu) for gpu in began.gpus.gpus], right=(0, 2, 3, 5, 6)),
        table(
            RUNNING,
            [_running(job) for job in sorted(looked.live, key=lambda job: job.id)],
            right=(0, 5, 7, 8),
        ),
        table(WAITING, [_waiting(job) for job in looked.waiting], right=(0,)),
    ]
    if waiting > len(looked.waiting):
        parts[-1] += f"\n… and {waiting - len(looked.waiting)} more"
    parts.append("\n".join(_event(event) for event in began.events[-EVENTS:]))
    return "\n\n".join(parts)


def _gpu(gpu: GpuView) -> tuple[str, ...]:
    job = "-" if gpu.job is None else str(gpu.job)
    return (str(gpu.index), gpu.state, job, *measured(gpu), one_line(gpu.reason or "-"))


def _running(job: JobView) -> tuple[str, ...]:
    number, name, user, state, _, gpus, attempt, at, eta, elapsed, settings = job_rows.row(job)
    latest = job_rows.latest(job.progress) or "-"
    return number, name, user, state, gpus, attempt, at, eta, elapsed, settings, latest


def _waiting(job: JobView) -> tuple[str, ...]:
    settings = job.label or "-"
    return str(job.id), job.name, job.user, job.state, job_rows.gpus(job), settings, one_line(job.why)


def _event(event: EventView) -> str:
    job = f"job {event.job}" if event.job is not None else ""
    return f"{clock(event.time):<16}  {job:<9}  {event.type:<16}  {one_line(event.message)}"
