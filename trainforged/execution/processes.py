"""Processes as /proc shows them: who they are, whose they are, and how to end all of a set.

A process is (pid, start time, boot id): a pid alone is given out again. Standard library only: the
shim uses it too, and starts quickly because it imports little.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SIGKILL, SIGCONT, SIGSTOP = 9, 18, 19
FREEZE_LIMIT = 0.5  # seconds: a process in uninterruptible sleep cannot be frozen
OVER = "ZX"  # states of a process that runs no more
FROZEN = "Tt" + OVER


class Stat:
    """What /proc/<pid>/stat says. `exit_code` is a wait status; it counts in state Z only."""

    __slots__ = ("exit_code", "parent", "pid", "start_time", "state")

    def __init__(self, pid: int, text: bytes) -> None:
        fields = text[text.rindex(b")") + 2 :].split()  # a name may hold spaces and brackets
        self.pid = pid
        self.state = fields[0].decode()
        self.parent = int(fields[1])
        self.start_time = int(fields[19])  # clock ticks since boot
        self.exit_code = int(fields[49])

    @property
    def over(self) -> bool:
        return self.state in OVER


def read_stat(pid: int) -> Stat | None:
    """None if there is no such process."""
    text = read_proc(f"/proc/{pid}/stat")
    return Stat(pid, text) if text else None


def boot_id() -> str:
    """Another one after each boot."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def read_proc(path: str) -> bytes:
    """The whole file; empty if the process is gone or not ours to look at."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        parts = []
        while part := os.read(fd, 1 << 16):
            parts.append(part)
        return b"".join(parts)
    except OSError:  # it died while being read
        return b""
    finally:
        os.close(fd)


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def all_stats() -> dict[int, Stat]:
    stats = (read_stat(pid) for pid in all_pids())
    return {stat.pid: stat for stat in stats if stat is not None}


def descendants(root: int, among: dict[int, Stat] | None = None) -> dict[int, Stat]:
    """Children of `root`, theirs, and so on, from one look at /proc (or at `among`)."""
    stats = all_stats() if among is None else among
    children: dict[int, list[Stat]] = {}
    for stat in stats.values():
        children.setdefault(stat.parent, []).append(stat)
    found: dict[int, Stat] = {}
    waiting = [root]
    while waiting:
        for stat in children.get(waiting.pop(), ()):
            if stat.pid not in found:  # a look is not a snapshot: pids may change hands within it
                found[stat.pid] = stat
                waiting.append(stat.pid)
    return found


def carriers(variable: str, value: str) -> dict[int, Stat]:
    """Processes that were started with this variable in their environment, ourselves excepted."""
    wanted = b"\0" + os.fsencode(f"{variable}={value}") + b"\0"
    found: dict[int, Stat] = {}
    for pid in all_pids():
        if pid == os.getpid() or wanted not in b"\0" + read_proc(f"/proc/{pid}/environ"):
            continue
        stat = read_stat(pid)
        if stat is not None and not stat.over:
            found[pid] = stat
    return found


def send(pids: Iterable[int], signal: int) -> None:
    """Signal each; one that is gone, or not ours to signal, is passed over."""
    for pid in pids:
        try:
            os.kill(pid, signal)
        except (ProcessLookupError, PermissionError):
            continue


def kill(find: Callable[[], dict[int, Stat]]) -> int:
    """Freeze what `find` finds until nothing new appears, then SIGKILL it all.

    Frozen first, since a process that forks faster than it is found would get away. Returns how
    many were killed; a caller that must be sure asks again until it is 0.
    """
    alive = [pid for pid, stat in _freeze(find).items() if not stat.over]
    send(alive, SIGKILL)
    return len(alive)


def _freeze(find: Callable[[], dict[int, Stat]]) -> dict[int, Stat]:
    limit = time.monotonic() + FREEZE_LIMIT
    while True:
        found = find()
        running = [pid for pid, stat in found.items() if stat.state not in FROZEN]
        if not running or time.monotonic() > limit:
            return found
        send(running, SIGSTOP)
        time.sleep(0.001)
