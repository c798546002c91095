"""Processes as /proc shows them: who they are, whose they are, and how to end all of a set.

A process is (pid, start time, boot id): a pid alone is given out again. Standard library only: the
shim uses it too, and starts quickly because it imports little.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SIGKILL, SIGSTOP = 9, 19
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


def descendants(root: int, among: dict[int, Stat] | None = None) -> Iterator[int]:
    """Children of `root`, theirs, and so on: each as soon as it is found; from `among`, where given."""
    children = _children_now if among is None and _can_list_children() else _children_among(among)
    seen = {root}
    waiting = [root]
    while waiting:
        for pid in children(waiting.pop()):
            if pid not in seen:  # a look is not a snapshot: pids may change hands within it
                seen.add(pid)
                yield pid
                waiting.append(pid)


def carriers(variable: str, value: str) -> Iterator[int]:
    """Processes that were started with this variable in their environment, ourselves excepted.

    The newest come first: of a family that forks all the time the rest are gone when we get there.
    """
    wanted = b"\0" + os.fsencode(f"{variable}={value}") + b"\0"
    for pid in sorted(all_pids(), reverse=True):
        if pid != os.getpid() and wanted in b"\0" + read_proc(f"/proc/{pid}/environ"):
            yield pid


def _can_list_children() -> bool:
    return os.path.exists(f"/proc/self/task/{os.getpid()}/children")  # a kernel may be built without


def _children_now(pid: int) -> Iterator[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    for thread in threads:
        yield from map(int, read_proc(f"/proc/{pid}/task/{thread}/children").split())


def _children_among(stats: dict[int, Stat] | None) -> Callable[[int], list[int]]:
    children: dict[int, list[int]] = {}
    for stat in (all_stats() if stats is None else stats).values():
        children.setdefault(stat.parent, []).append(stat.pid)
    return lambda pid: children.get(pid, [])


# ---------------------------------------------------------------- signals


def send(pids: Iterable[int], signal: int) -> None:
    """Signal each; one that is gone, or not ours to signal, is passed over."""
    for pid in pids:
        try:
            os.kill(pid, signal)
        except (ProcessLookupError, PermissionError):
            continue


def kill(find: Callable[[], Iterable[int]]) -> frozenset[int]:
    """Freeze what `find` finds until nothing new appears, then SIGKILL it all; who that was.

    Frozen first, and each in the moment it is found, since a process that forks faster than it is
    killed would get away. A caller that must be sure asks again until nobody is left.
    """
    alive = _freeze(find)
    send(alive, SIGKILL)
    return alive


def _freeze(find: Callable[[], Iterable[int]]) -> frozenset[int]:
    """Those alive, once two looks in a row have found the same ones and all of them frozen."""
    limit = time.monotonic() + FREEZE_LIMIT
    over: set[int] = set()
    before: frozenset[int] | None = None
    while True:
        states = dict(_stopped(find, over))
        over.update(pid for pid, state in states.items() if state in OVER)
        alive = frozenset(states.keys() - over)
        if alive == before or time.monotonic() > limit:
            return alive
        if all(states[pid] in FROZEN for pid in alive):
            before = alive
        else:
            before = None
            time.sleep(0.0005)  # a signal takes a moment to arrive


def _stopped(find: Callable[[], Iterable[int]], over: set[int]) -> Iterator[tuple[int, str]]:
    """SIGSTOP to each that is not over; each with its state after that."""
    for pid in find():
        if pid in over:
            continue
        send([pid], SIGSTOP)
        stat = read_stat(pid)
        yield pid, stat.state if stat is not None else "X"
