"""Control groups for attempts that have no unit of a service manager: a folder each, below one of ours.

Only where groups (cgroup v2) are ours to make. No process is moved, and the daemon's own group is left as
it was found: so limits on memory and CPU time can be had in two cases.

    the root of all groups    where the daemon runs as root and no service manager does
    a group of its own        above that of the daemon, ours, and without processes: `GROUP/daemon`

Elsewhere a group still ends everything in it at once, whatever its processes did to get away.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path

from trainforged.execution.shim import group

FOLDER = "trainforge"
OLD = 3600.0  # seconds
WANTED = ("cpu", "memory", "pids")
PERIOD = 100_000  # microseconds in which the share of CPU time is counted
SYSTEMD = Path("/run/systemd/system")

log = logging.getLogger(__name__)


class Groups:
    """`folder` holds those of the attempts; `limits` is what can be limited in them."""

    def __init__(self, folder: Path, limits: tuple[str, ...]) -> None:
        self.folder = folder
        self.limits = limits

    def make(self, token: str, *, cpu: int, memory: int, processes: int = 0) -> str | None:
        """The folder of a new group for the attempt with this mark, with its limits (0: none).

        None where that cannot be had. Safe to do again.
        """
        path = self.folder / name(token)
        try:
            path.mkdir(exist_ok=True)
            if "memory" in self.limits and memory > 0:
                (path / "memory.max").write_text(str(memory))
            if "cpu" in self.limits and cpu > 0:
                (path / "cpu.max").write_text(f"{cpu * PERIOD} {PERIOD}")
            if "pids" in self.limits and processes > 0:
                (path / "pids.max").write_text(str(processes))
        except OSError as error:
            log.warning("the attempt %s is started without a control group: %s", token, error)
            return None
        return str(path)


def name(token: str) -> str:
    """Of the group of the attempt with this mark."""
    return f"trainforge-{token}"


def find() -> Groups | None:
    """Where this process may make groups; None where it may not."""
    mounted = group.mounted()
    home = _home(Path(mounted)) if mounted is not None else None
    if home is None:
        return None
    for parent, controllers in _parents(home):
        folder = parent / FOLDER
        with contextlib.suppress(OSError):
            if controllers:
                _enable(parent)
            folder.mkdir(exist_ok=True)
            _enable(folder)
            if os.access(folder / "cgroup.procs", os.W_OK):
                sweep(folder)
                return Groups(folder, _enabled(folder))
    return None


def sweep(folder: Path) -> None:
    """Remove groups that nobody is in and nobody removed: who should have was killed, and had no successor.

    Not the new ones: their attempts are about to be born in them.
    """
    for path in folder.glob(name("*")):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_ctime > OLD:
                path.rmdir()


def _home(mounted: Path) -> Path | None:
    """The folder of the group that we are in, if it is seen here at all."""
    text = Path("/proc/self/cgroup").read_text()
    path = next((line[3:] for line in text.splitlines() if line.startswith("0::")), None)
    if path is None:
        return None
    home = mounted / path.lstrip("/")
    return home if str(os.getpid()) in _words(home / "cgroup.procs") else None


def _parents(home: Path) -> list[tuple[Path, bool]]:
    """Groups to make ours in, the better first; and whether they may be asked to limit something."""
    if not (home / "cgroup.type").exists():
        return [(home, not SYSTEMD.exists())]  # the root of all, which alone may hold processes as well
    if SYSTEMD.exists():  # whose groups they are: what is not handed over is to be left alone
        return [(home, False)] if _handed_over(home) else []
    above = home.parent
    ours = os.access(above / "cgroup.subtree_control", os.W_OK)
    free = not (above / "cgroup.type").exists() or not _words(above / "cgroup.procs")
    return [(above, True), (home, False)] if ours and free else [(home, False)]


def _handed_over(home: Path) -> bool:
    """Whether the service manager left the group to us (`Delegate=`)."""
    try:
        return os.getxattr(home, "user.delegate") == b"1"
    except OSError:
        return False


def _enable(folder: Path) -> None:
    """Have what lies in the folder limited as far as the kernel and whoever gave us the folder allow."""
    for name in _words(folder / "cgroup.controllers"):
        if name in WANTED:
            with contextlib.suppress(OSError):
                (folder / "cgroup.subtree_control").write_text(f"+{name}")


def _enabled(folder: Path) -> tuple[str, ...]:
    return tuple(name for name in WANTED if name in _words(folder / "cgroup.subtree_control"))


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
