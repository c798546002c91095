"""What the processes of running attempts use, sampled from /proc."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec
import psutil

from trainforge.api import Usage
from trainforged.execution import processes
from trainforged.execution.observing.traffic import Carried, Traffic

Family = tuple[tuple[int, int], ...]
"""Processes: (pid, start time in clock ticks since boot), which is one process and never another."""

FIELDS = ("cpu_times", "memory_info", "io_counters")


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over an attempt's processes, the reaped ones included: a parent carries what they used."""

    time: float  # monotonic
    cpu: float = 0.0  # seconds
    memory: int = 0
    read: int = 0
    written: int = 0
    carried: Carried | None = None  # over the network; None: not known
    pids: frozenset[int] = frozenset()
    family: Family = ()  # all of them but the shim


def sample(shims: Mapping[int, int], traffic: Traffic | None = None) -> dict[int, Total]:
    """Totals by job, from one look at /proc; `shims` are pids of shims by job. Blocks for some ms. Without
    `traffic` nothing is asked about the network."""
    stats = processes.all_stats()
    trees = {job: processes.tree(shim, stats) for job, shim in shims.items() if shim in stats}
    families = {job: (pids[0], pids[1:]) for job, pids in trees.items()}
    carried = traffic.look(families) if traffic is not None else {}
    return {job: _total(pids, stats, carried.get(job)) for job, pids in trees.items()}


def rate(before: Total | None, now: Total) -> Usage:
    """Usage from two totals. Without a former one the share of the CPU is not known yet: 0."""
    seconds = now.time - before.time if before is not None else 0.0
    cpu = (now.cpu - before.cpu) / seconds if before is not None and seconds > 0 else 0.0
    return Usage(
        cpu=max(0.0, cpu),
        memory=now.memory,
        read=now.read,
        written=now.written,
        received=now.carried.received if now.carried is not None else None,
        sent=now.carried.sent if now.carried is not None else None,
        processes=max(0, len(now.pids) - 1),  # the shim is ours, not the job's
    )


def _total(pids: list[int], stats: Mapping[int, processes.Stat], carried: Carried | None) -> Total:
    """Memory is what each process has alone, and the largest share of what they may have in common."""
    cpu, own, shared, read, written = 0.0, 0, 0, 0, 0
    for pid in pids:
        try:
            info = psutil.Process(pid).as_dict(FIELDS)
        except psutil.Error:
            continue
        times, memory, io = info["cpu_times"], info["memory_info"], info["io_counters"]
        if times is not None:
            cpu += sum(times[:4])  # user, system, and those of its reaped children
        if memory is not None:
            own += memory.rss - memory.shared
            shared = max(shared, memory.shared)
        if io is not None:
            read += io.read_bytes
            written += io.write_bytes
    return Total(
        time=time.monotonic(),
        cpu=cpu,
        memory=own + shared,
        read=read,
        written=written,
        carried=carried,
        pids=frozenset(pids),
        family=tuple((pid, stats[pid].start_time) for pid in pids[1:]),
    )
