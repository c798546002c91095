"""Check the installation and say what to fix. Exits with 1 if something has to be."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tfctl import service
from tfctl.render.figures import counted, size
from trainforge.api import GpuList, GroupsView, StatusAnswer
from trainforge.client import home
from trainforge.client.client import Client, NoDaemon

LITTLE_ROOM = 5 * 2**30  # bytes; a few checkpoints of a small model


class Finding(NamedTuple):
    """`fix` is empty where all is well."""

    what: str
    found: str
    fix: str = ""


def arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def run(args: argparse.Namespace) -> int:
    del args
    bad = 0
    for check in CHECKS:
        for finding in check():
            print(f"{'!!' if finding.fix else 'ok'}  {finding.what:<10} {finding.found}")
            if finding.fix:
                print(f"    {'':<10} {finding.fix}")
                bad += 1
    print("all is well" if not bad else f"{bad} to fix")
    return 1 if bad else 0


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", f"{version} ({sys.executable})")


def _jobs_python() -> Iterator[Finding]:
    from tfctl.projects import python

    found = python()
    if found is None:
        yield Finding("jobs", "no python in this shell", "activate the environment that your jobs need")
        return
    import subprocess

    probe = "import importlib.metadata as m; print(m.version('torch'))"
    result = subprocess.run([found, "-c", probe], capture_output=True, text=True, timeout=30)
    if result.returncode:
        yield Finding(
            "jobs", f"run with {found}, which has no torch", "activate another, or pip install torch"
        )
    else:
        yield Finding("jobs", f"run with {found}, torch {result.stdout.strip()}")


def _tools() -> Iterator[Finding]:
    uv = shutil.which("uv")
    yield Finding("uv", uv or "not installed: environment.python: isolated uses venv and pip, more slowly")


def _limits() -> Iterator[Finding]:
    processes = os.sysconf("SC_CHILD_MAX")
    if 0 < processes < 1024:
        yield Finding("limits", f"{processes} processes", "raise it: ulimit -u 4096")


def _daemon() -> Iterator[Finding]:
    with Client(patience=0.0) as client:
        try:
            status = client.status()
            gpus = client.gpus()
        except NoDaemon as error:
            places = "; ".join(map(str, error.tried))
            yield Finding(
                "daemon", f"none answers at {places}", "tfctl daemon start, or the first tfctl submit"
            )
            yield from _state(home.state_dir(), None)
            return
    yield Finding("daemon", f"{status.version}, pid {status.pid}, at {client.socket}")
    if status.storage_problem is not None:
        fix = "look at the disk (dmesg); what is running goes on, and nothing new is accepted"
        yield Finding("database", status.storage_problem, fix)
    yield from _service(status)
    yield from _state(Path(status.state_dir), status.disk_free)
    yield from _gpus(gpus, status)
    if status.web is not None:
        yield Finding("page", f"at http://{status.web}/ (tfctl dashboard)")
    elif status.web_problem is not None:
        yield Finding("page", f"none: {status.web_problem}")


def _service(status: StatusAnswer) -> Iterator[Finding]:
    """Who starts the daemon again, and what holds a job's processes together."""
    manager = service.manager_of(status.pid)
    if manager is None:
        after = "nobody starts it again after a reboot"
        yield Finding("service", f"none: {after}" + ("; tfctl daemon install" if service.runs() else ""))
    else:
        whose = f"of the machine, as {status.user}" if manager is service.SYSTEM else f"of {status.user}"
        watchdog = manager.shown("WatchdogUSec").get("WatchdogUSec", "unknown")
        yield Finding("service", f"{whose}; watchdog after {watchdog}")
    lingering = service.lingers(status.user)
    if service.contains(status.user):
        yield Finding(
            "jobs in", f"units: each attempt is a unit of its own, of {status.user}'s service manager"
        )
    else:
        why = "lingering is off" if service.runs() and not lingering else "no service manager"
        yield Finding("jobs in", f"{_held_by(status.groups)} ({why})")
    if status.gpus_total and not status.simulated:
        yield Finding("nodes", _openable(status.user))
    if manager is not None and not lingering:
        lost = "it ends with your last session" if manager is service.USER else "attempts have no units"
        yield Finding("lingering", f"off: {lost}", f"sudo loginctl enable-linger {status.user}")


def _openable(user: str) -> str:
    """Which GPUs' device nodes a job can open, whatever it was told."""
    if user == "root" and service.contains(user):
        return "a job can open the GPUs that it has leased, and no others"
    return "every job can open all GPUs; closing them takes a daemon that is root's, with units for its jobs"


def _held_by(groups: GroupsView | None) -> str:
    if groups is None:
        return "sessions and process groups, below a subreaper"
    words = ["processes" if name == "pids" else name for name in groups.limits]
    limited = " and ".join([*([", ".join(words[:-1])] if words[1:] else []), *words[-1:]])
    limited = limited or "neither memory nor cpu: those are not ours to limit"
    return f"control groups below {groups.folder}, which limit {limited}"


def _state(folder: Path, free: int | None) -> Iterator[Finding]:
    """The daemon's state folder, or the one that a daemon of this user would have."""
    if free is None:
        place = folder
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
    fix = "make room, or move it with --state-dir" if free < LITTLE_ROOM else ""
    yield Finding("state", f"{folder}: {size(free)} free", fix)
    for file in sorted(folder.glob("*.db.damaged-*")):
        if file.name.rpartition("-")[2].isdigit():
            fix = f"look at the disk (dmesg); when you do not need what it holds: rm {file}*"
            yield Finding("database", f"one was damaged, and lies aside: {file}", fix)
    if (rows := folder / "trainforge.db.unreadable-rows").exists():
        fix = f"`tfctl events` says what became of them; when you do not need what they held: rm {rows}"
        yield Finding("database", f"rows of trainforge.db could not be read, and lie aside: {rows}", fix)
    if folder.exists() and folder.stat().st_mode & 0o077:
        yield Finding("state", f"{folder} can be read by others", f"chmod 700 {folder}")
    if folder != home.state_dir() and home.has_unfinished_jobs(home.state_dir()):
        fix = "unset TRAINFORGE_SOCKET; tfctl daemon start"
        yield Finding(
            "state", f"{home.state_dir()} holds unfinished jobs that this daemon does not have", fix
        )


def _gpus(gpus: GpuList, status: StatusAnswer) -> Iterator[Finding]:
    if gpus.problem is not None and gpus.gpus:
        fix = "running jobs stay, and none is started; it goes on by itself once the driver answers"
        yield Finding("gpus", f"{counted(len(gpus.gpus), 'GPU')} cannot be read: {gpus.problem}", fix)
    elif gpus.problem is None:
        kind = "simulated GPU" if status.simulated else "GPU"
        driver = f"; driver {gpus.driver}" if gpus.driver else ""
        yield Finding("gpus", f"{counted(len(gpus.gpus), kind)}, {status.gpus_free} free{driver}")
    else:
        fix = "install the NVIDIA driver, or try everything with trainforged --simulate-gpus 2"
        yield Finding("gpus", gpus.problem, fix)
    for gpu in gpus.gpus:
        if gpu.state == "set_aside":
            yield Finding(
                "gpus", f"GPU {gpu.index} is set aside: {gpu.reason}", "nvidia-smi -q; then reset it"
            )


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (_python, _jobs_python, _tools, _limits, _daemon)
