"""Figures in Prometheus' text exposition format 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from trainforge.api import GpuList, GpuView, StatusAnswer
from trainforged.web.context import Context
from trainforged.web.service import Figures

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

GPU_STATES = ("free", "leased", "releasing", "foreign", "set_aside", "drained", "excluded")  # of GpuView

Sample = tuple[Mapping[str, str], float | None]
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


async def scrape(context: Context) -> bytes:
    """All figures, as they are now."""
    service = context.service
    status, gpus, figures = await service.status(), await service.gpus(), await service.figures()
    return exposition(status, gpus, figures, context.requests, len(context.streams)).encode()


def exposition(
    status: StatusAnswer,
    gpus: GpuList,
    figures: Figures,
    requests: Mapping[tuple[str, str, int], int],
    streams: int,
) -> str:
    """`requests` counts by (method, route, status) since the daemon started."""
    return "".join((*_daemon(status, streams), *_happened(figures), *_gpus(gpus.gpus), _requests(requests)))


def _daemon(status: StatusAnswer, streams: int) -> Iterable[str]:
    jobs = [({"state": state}, count) for state, count in msgspec.structs.asdict(status.jobs).items()]
    yield _family("info", "gauge", "Which daemon this is.", [({"version": status.version}, 1)])
    yield _family("jobs", "gauge", "Jobs by state.", jobs)
    for name, help, value in (
        ("uptime_seconds", "Since the daemon started.", status.uptime),
        ("gpus", "GPUs of the machine.", status.gpus_total),
        ("gpus_free", "GPUs that a job could have now.", status.gpus_free),
        ("cpus", "Cores to give out.", status.cpu_total),
        ("cpus_free", "Cores not given out.", status.cpu_free),
        ("memory_bytes", "Host memory to give out.", status.memory_total),
        ("memory_free_bytes", "Host memory not given out.", status.memory_free),
        ("load1", "The machine's load average over a minute.", status.load[0]),
        ("disk_free_bytes", "Free space where the state folder lies.", status.disk_free),
        ("last_event", "Id of the newest event.", status.last_event),
        ("http_streams", "Open event streams and followed logs.", streams),
    ):
        yield _family(name, "gauge", help, [({}, value)])


def _happened(figures: Figures) -> Iterable[str]:
    waiting = [({"for": what}, count) for what, count in figures.waiting.items()]
    yield _family("jobs_waiting", "gauge", "Queued jobs by what they wait for.", waiting)
    name, help = "longest_wait_seconds", "Of the jobs that wait for GPUs, cores or memory."
    yield _family(name, "gauge", help, [({}, figures.longest_wait)])
    yield _summary("wait_seconds", "From submission to first start.", figures.waited, figures.starts)
    events = [({"type": type}, count) for type, count in sorted(figures.events.items())]
    yield _family("events_total", "counter", "What has happened; job_retried is a recovery.", events)
    yield _family("jobs_wasting", "gauge", "Jobs with GPUs that they do not use.", [({}, figures.wasting)])
    yield _family("notices_waiting", "gauge", "Notices that have not arrived.", [({}, figures.notices)])
    for name, kind, help, value in (
        ("process_cpu_seconds_total", "counter", "CPU time of the daemon.", figures.cpu),
        ("process_resident_memory_bytes", "gauge", "Memory of the daemon.", figures.memory),
        ("process_open_fds", "gauge", "Open descriptors of the daemon.", figures.descriptors),
        ("process_start_time_seconds", "gauge", "When the daemon started.", figures.process_started),
    ):
        yield _family(name, kind, help, [({}, value)], prefix="")


def _gpus(gpus: tuple[GpuView, ...]) -> Iterable[str]:
    names = [_gpu(gpu) for gpu in gpus]
    info = [{**name, "name": gpu.name, "state": gpu.state} for name, gpu in zip(names, gpus, strict=True)]
    holders = [(name, float(gpu.job)) for name, gpu in zip(names, gpus, strict=True) if gpu.job is not None]
    yield _family("gpu_info", "gauge", "A GPU and its state.", [(labels, 1) for labels in info])
    states = [
        ({**name, "state": state}, float(gpu.state == state))
        for name, gpu in zip(names, gpus, strict=True)
        for state in GPU_STATES
    ]
    yield _family("gpu_state", "gauge", "1 for the state that the GPU is in.", states)
    yield _family("gpu_job", "gauge", "Id of the job that holds the GPU.", holders)
    for name, help, values in (
        ("gpu_utilisation_ratio", "0 to 1.", [_ratio(gpu.utilisation) for gpu in gpus]),
        ("gpu_memory_bytes", "Memory of the GPU.", [gpu.memory_total for gpu in gpus]),
        ("gpu_memory_used_bytes", "Memory in use.", [gpu.memory_used for gpu in gpus]),
        ("gpu_temperature_celsius", "Temperature.", [gpu.temperature for gpu in gpus]),
        ("gpu_power_watts", "Power drawn.", [gpu.power for gpu in gpus]),
        ("gpu_power_limit_watts", "Power that it may draw.", [gpu.power_limit for gpu in gpus]),
    ):
        yield _family(name, "gauge", help, zip(names, values, strict=True))


def _requests(requests: Mapping[tuple[str, str, int], int]) -> str:
    samples = [
        ({"method": method, "route": route, "status": str(status)}, count)
        for (method, route, status), count in sorted(requests.items())
    ]
    return _family("http_requests_total", "counter", "Requests answered.", samples)


def _gpu(gpu: GpuView) -> dict[str, str]:
    return {"gpu": str(gpu.index), "uuid": gpu.uuid}


def _ratio(percent: int | None) -> float | None:
    return None if percent is None else percent / 100


def _family(name: str, kind: str, help: str, samples: Iterable[Sample], prefix: str = "trainforge_") -> str:
    """Samples without a value are left out; so is a family without samples."""
    name = prefix + name
    lines = [f"{name}{_labels(labels)} {value}\n" for labels, value in samples if value is not None]
    if not lines:
        return ""
    return f"# HELP {name} {help}\n# TYPE {name} {kind}\n" + "".join(lines)


def _summary(name: str, help: str, total: float, count: int) -> str:
    head = f"# HELP trainforge_{name} {help}\n# TYPE trainforge_{name} summary\n"
    return f"{head}trainforge_{name}_sum {total}\ntrainforge_{name}_count {count}\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items()) + "}"
