"""What machine this is, how busy, and how fast its disk makes things durable."""

from __future__ import annotations

import datetime
import os
import platform
import time
from pathlib import Path

import psutil

import trainforge
from benchmarks.figures import Conditions, Machine

BLOCK = bytes(4096)
LOOK = 1.0  # seconds that the disk is measured for


def conditions() -> Conditions:
    realtime = os.sched_getscheduler(0) in (os.SCHED_RR, os.SCHED_FIFO)
    return Conditions(at=datetime.datetime.now(datetime.UTC), load=os.getloadavg(), realtime=realtime)


def go_first() -> None:
    """Take the real-time class, and everything started from here with us."""
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def fdatasyncs(folder: Path, seconds: float = LOOK) -> float:
    """How often per second 4 KiB appended to a file can be made durable."""
    path = folder / "fdatasync"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        count, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds:
            os.write(fd, BLOCK)
            os.fdatasync(fd)
            count += 1
        return count / passed
    finally:
        os.close(fd)
        path.unlink()


def describe(folder: Path, disk: float) -> Machine:
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        memory=psutil.virtual_memory().total,
        kernel=platform.release(),
        system=_system(),
        python=platform.python_version(),
        file_system=_file_system(folder),
        fdatasyncs=round(disk, 1),
        version=trainforge.__version__,
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _file_system(folder: Path) -> str:
    """The type of the one that is mounted nearest above the folder."""
    real = os.path.realpath(folder)
    mounts = psutil.disk_partitions(all=True)
    above = [m for m in mounts if os.path.commonpath([real, m.mountpoint]) == m.mountpoint]
    return max(above, key=lambda m: len(m.mountpoint)).fstype if above else "unknown"
