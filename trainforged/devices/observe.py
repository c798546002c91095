"""From samples to what the scheduler may know: which GPUs exist, and why one is not offered.

A GPU is offered when no foreign compute process is on it and enough of its memory is free, so a
desktop does not block it. Pure functions: the same samples always give the same devices, and equal
devices mean that there is nothing to tell. `set_aside` and `drained` belong to the core and pass through.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from fnmatch import fnmatchcase

from msgspec.structs import replace

from trainforge.api import GpuProcess
from trainforged.core.messages import Device
from trainforged.devices.inventory import SILENT, Sample, gib, holder, is_simulated

EXCLUDED = "excluded by configuration"
DIVIDED = "MIG mode is on, and only whole GPUs are given out (nvidia-smi -mig 0)"
UNSEEN = "not seen by the driver since"
MIN_FREE = 0.8

# The MPS server keeps a context for its clients and computes nothing itself; the clients are listed too.
HELPERS = frozenset({"nvidia-cuda-mps-server"})

_SIZE = re.compile(r"([\d.]+) ([GM])iB")


def observe(
    samples: Sequence[Sample],
    known: Mapping[str, Device],
    leased: AbstractSet[str] = frozenset(),
    ours: Callable[[int], bool] | AbstractSet[int] = frozenset(),
    excluded: Sequence[str] = (),
    min_free: float = MIN_FREE,
    *,
    now: float,
    problem: str | None = None,
) -> tuple[Device, ...]:
    """The devices by index: those sampled, and those of `known` that are not.

    `ours` tells our processes by pid. `excluded` are indices, UUIDs, or UUID patterns ("GPU-8f*").
    `min_free` is the free share of memory, 0 … 1, that a GPU without a lease must have. `problem` is
    the inventory's, and the reason for what it does not see; `now` is in seconds since the epoch.
    On a leased GPU a foreign process is recorded, so that it can be named; its memory is its job's affair.
    """
    mine = ours if callable(ours) else ours.__contains__
    seen = {sample.uuid for sample in samples if sample.uuid}
    nameless = {sample.index: sample.lost for sample in samples if not sample.uuid}

    def reason(sample: Sample) -> str | None:
        if matches(sample, excluded):
            return EXCLUDED
        return None if sample.lost else _in_use(sample, sample.uuid in leased, mine, min_free)

    devices = [_sampled(s, known.get(s.uuid), reason(s)) for s in samples if s.uuid]
    for device in known.values():
        if device.uuid not in seen and (device.uuid in leased or not _of_another_kind(device, samples)):
            own = nameless.get(device.index)
            devices.append(
                replace(_unsampled(device, own or problem, now), unread=own is None and bool(problem))
            )
    return tuple(sorted(devices, key=lambda device: (device.index, device.uuid)))


def matches(sample: Sample, patterns: Sequence[str]) -> bool:
    """Whether one of `patterns` means this GPU."""
    return any(
        int(pattern) == sample.index if pattern.isdecimal() else fnmatchcase(sample.uuid, pattern)
        for pattern in patterns
    )


def _sampled(sample: Sample, known: Device | None, foreign: str | None) -> Device:
    device = known or Device(uuid=sample.uuid, index=sample.index)
    return replace(
        device,
        index=sample.index,
        name=sample.name or device.name,
        memory_total=sample.memory_total or device.memory_total,
        missing=sample.lost,
        unread=sample.lost == SILENT,
        foreign=_settled(device.foreign, foreign),
    )


def _unsampled(device: Device, reason: str | None, now: float) -> Device:
    if reason is None and device.missing and device.missing.startswith(UNSEEN):
        return device
    moment = time.strftime("%Y-%m-%d %H:%M", time.localtime(now))
    return replace(device, missing=reason or f"{UNSEEN} {moment}", foreign=None)


def _of_another_kind(device: Device, samples: Sequence[Sample]) -> bool:
    """Made-up GPUs of a former run, or real ones while some are made up: gone, but not missing."""
    made_up = any(is_simulated(sample.uuid) for sample in samples)
    return is_simulated(device.uuid) != made_up


def _in_use(sample: Sample, leased: bool, ours: Callable[[int], bool], min_free: float) -> str | None:
    foreign = [p for p in sample.processes if p.kind == "compute" and p.name not in HELPERS]
    foreign = [p for p in foreign if not ours(p.pid)]
    if foreign:
        return _holders(foreign)
    if leased or is_simulated(sample.uuid):
        return None
    return DIVIDED if sample.mig else _crowded(sample, min_free)


def _crowded(sample: Sample, min_free: float) -> str | None:
    if not sample.memory_total or sample.memory_used is None:
        return None
    free = max(0, sample.memory_total - sample.memory_used)
    if free >= min_free * sample.memory_total:
        return None
    text = f"only {gib(free)} of {gib(sample.memory_total)} are free"
    return f"{text}: {_holders(sample.processes)}" if sample.processes else text


def _holders(processes: Sequence[GpuProcess]) -> str:
    largest = sorted(processes, key=lambda p: (-((p.memory or 0) >> 30), p.pid))
    text = ", ".join(map(holder, largest[:2]))
    return f"{text} and {len(largest) - 2} more" if len(largest) > 2 else text


def _settled(old: str | None, new: str | None) -> str | None:
    """`old` where only its figures moved a little: each difference is an event, written to disk."""
    if not old or not new or _SIZE.sub("", old) != _SIZE.sub("", new):
        return new
    pairs = zip(_sizes(old), _sizes(new), strict=True)
    return old if all(abs(was - now) <= max(0.5, was / 10) for was, now in pairs) else new


def _sizes(text: str) -> list[float]:
    return [float(number) / (1 if unit == "G" else 1024) for number, unit in _SIZE.findall(text)]
