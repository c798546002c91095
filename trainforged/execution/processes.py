"""Processes as /proc shows them: who they are, whose they are, and how to end all of a set.

A process is (pid, start time, boot id): a pid alone is given out again. Standard library only: the
shim uses it too, and starts quickly because it imports little.
"""

from __future__ import annotations

import os
import time

from trainforged.execution.shim.lean import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MOST_LISTS = 50  # in one look for carriers, on a machine where processes come and go all the time
FREEZE_LIMIT = 0.25  # seconds: a process in uninterruptible sleep cannot be frozen
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


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since the machine started."""
    for line in read_proc("/proc/vmstat").splitlines():
        if line.startswith(b"oom_kill "):
            return int(line.split()[1])
    return 0


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


# ---------------------------------------------------------------- sets of processes, found as one asks


def descendants(root: int) -> Iterator[Stat]:
    """Children of `root`, theirs, and so on: each as soon as it is found."""
    children = _children_now if _can_list_children() else _children_among(all_stats())
    seen = {root}
    waiting = [root]
    while waiting:
        for pid in children(waiting.pop()):
            stat = None if pid in seen else read_stat(pid)
            if stat is not None and stat.parent in seen:  # and not somebody else under its number by now
                seen.add(pid)
                yield stat
                waiting.append(pid)


def tree(root: int, among: dict[int, Stat]) -> list[int]:
    """`root` and its descendants in one look at /proc that serves for several trees."""
    children = _children_among(among)
    found = [root]
    for pid in found:  # which grows as we go
        found += (child for child in children(pid) if child not in found)
    return found


def carriers(variable: str, value: str) -> Iterator[Stat]:
    """Processes that were started with this variable in their environment, ourselves excepted.

    The newest come first: of a family that forks all the time the rest are gone when we get there. The kernel
    lists processes in the order of their numbers, so one of such a family, or its successor, is in the list:
    where one is gone before it was looked at, those are looked at that have come meanwhile.
    """
    wanted = b"\0" + os.fsencode(f"{variable}={value}") + b"\0"
    seen = {os.getpid()}
    for _ in range(MOST_LISTS):
        new = sorted(set(all_pids()) - seen, reverse=True)
        seen.update(new)
        untold = False
        for pid in new:
            if carries := _carries(pid, wanted):
                stat = read_stat(pid)
                carries = _carries(pid, wanted) if stat is not None else None
                if stat is not None and carries:  # it lives on as `stat`: that is the carrier
                    yield stat
            untold = untold or carries is None
        if not untold:
            return


def _carries(pid: int, wanted: bytes) -> bool | None:
    """None where it does not tell: it is gone, or never had an environment."""
    environment = read_proc(f"/proc/{pid}/environ")
    return wanted in b"\0" + environment if environment else None


def _can_list_children() -> bool:
    return os.path.exists(f"/proc/self/task/{os.getpid()}/children")  # a kernel may be built without


def _children_now(pid: int) -> Iterator[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    for thread in threads:
        yield from map(int, read_proc(f"/proc/{pid}/task/{thread}/children").split())


def _children_among(stats: dict[int, Stat]) -> Callable[[int], list[int]]:
    children: dict[int, list[int]] = {}
    for stat in stats.values():
        children.setdefault(stat.parent, []).append(stat.pid)
    return lambda pid: children.get(pid, [])


# ---------------------------------------------------------------- signals


def send(stat: Stat, number: int) -> None:
    """Signal the process that `stat` is of, and nobody who has its number now.

    One that is gone, or not ours to signal, is passed over.
    """
    try:
        pidfd = os.pidfd_open(stat.pid)
    except OSError:
        return
    try:
        now = read_stat(stat.pid)
        if now is not None and now.start_time == stat.start_time:
            signal.pidfd_send_signal(pidfd, number)
    except (ProcessLookupError, PermissionError):
        return
    finally:
        os.close(pidfd)


def kill(find: Callable[[], Iterable[Stat]]) -> frozenset[int]:
    """Freeze what `find` finds until nothing new appears, then SIGKILL it all; who that was.

    Frozen first, and each in the moment it is found, since a process that forks faster than it is
    killed would get away. A caller that must be sure asks again until nobody is left.
    """
    alive = _freeze(find)
    for stat in alive.values():
        send(stat, signal.SIGKILL)
    return frozenset(alive)


def _freeze(find: Callable[[], Iterable[Stat]]) -> dict[int, Stat]:
    """Those alive, once two looks in a row have found the same ones and all of them frozen."""
    limit = time.monotonic() + FREEZE_LIMIT
    before: set[int] | None = None
    while True:
        alive = {stat.pid: stat for stat in _stopped(find)}
        if alive.keys() == before or time.monotonic() > limit:
            return alive
        if all(stat.state in FROZEN for stat in alive.values()):
            before = set(alive)
        else:
            before = None
            time.sleep(0.0005)  # a signal takes a moment to arrive


def _stopped(find: Callable[[], Iterable[Stat]]) -> Iterator[Stat]:
    """SIGSTOP to each that runs; those that live."""
    for stat in find():
        if stat.state not in FROZEN:
            send(stat, signal.SIGSTOP)
        if not stat.over:
            yield stat
