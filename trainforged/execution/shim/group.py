"""The attempt's own control group (cgroup v2), where it has one.

Either the daemon made it for the command, which is then born in it while we stay outside; or we were started
in a unit of the service manager's, and are in it ourselves. A process is never moved into a group: that
takes the kernel up to 23 ms, where being born in it takes nothing.
"""

from __future__ import annotations

import ctypes
import os
import time

from trainforged.execution.shim.lean import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CLONE3 = 435  # the number of the call, on every architecture
CLONE_INTO_CGROUP = 1 << 33
FIELDS = 11  # of `struct clone_args` up to the group, 8 bytes each
EXIT_SIGNAL, CGROUP = 4, 10  # of these
LIMITS = ("memory.max", "cpu.max", "pids.max")
PAUSE = 0.005  # seconds between two looks at who is left

# It keeps the interpreter's lock, for the child has no other thread that could give it back.
_libc = ctypes.PyDLL(None, use_errno=True)


class Group:
    """`path`: its folder. Nothing here raises where the group, or the file in question, does not exist."""

    def __init__(self, path: str) -> None:
        self.path = path

    def fork(self) -> int:
        """As `os.fork`, but the child is born in the group, as far as the kernel knows how.

        For processes with a single thread: nothing that others hold is set free in the child.
        """
        pid = self._born_in()
        if pid >= 0:
            return pid
        pid = os.fork()
        if pid == 0 and self._limits():
            _write(f"{self.path}/cgroup.procs", "0")
        return pid

    def oom_kills(self) -> int | None:
        """How many of its processes the kernel has killed for want of memory, whether at its own limit or as
        the machine had none left; None where nobody counts."""
        for line in _read(f"{self.path}/memory.events").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        return None

    def kill(self) -> None:
        """All of it at once, also what forks meanwhile."""
        _write(f"{self.path}/cgroup.kill", "1")

    def members(self) -> list[int]:
        return [int(pid) for folder in self._folders() for pid in _read(f"{folder}/cgroup.procs").split()]

    def remove(self) -> bool:
        """Whether it is gone, with the groups that the job made in it; not while a process is in it."""
        for folder in self._folders():
            try:
                os.rmdir(folder)
            except OSError:
                break
        return not os.path.exists(self.path)

    def _folders(self) -> Iterator[str]:
        """Its own comes last."""
        return (folder for folder, _, _ in os.walk(self.path, topdown=False))

    def clear(self, patience: float) -> Sequence[int]:
        """Kill it all and remove it; who is left after so many seconds, as a rule nobody."""
        limit = time.monotonic() + patience
        while not self.remove():
            self.kill()
            if time.monotonic() > limit:
                return self.members()
            time.sleep(PAUSE)
        return ()

    def _born_in(self) -> int:
        """As `fork`; below 0 where that cannot be had."""
        try:
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return -1
        fields = (ctypes.c_uint64 * FIELDS)()
        fields[0], fields[EXIT_SIGNAL], fields[CGROUP] = CLONE_INTO_CGROUP, signal.SIGCHLD, folder
        try:
            pid: int = _libc.syscall(ctypes.c_long(CLONE3), fields, ctypes.c_size_t(ctypes.sizeof(fields)))
            return pid
        finally:
            os.close(folder)

    def _limits(self) -> bool:
        return any(os.path.exists(f"{self.path}/{name}") for name in LIMITS)


def own(token: str) -> Group | None:
    """The group that we are in ourselves, if it is the attempt's: that has its mark in its name."""
    for line in _read("/proc/self/cgroup").splitlines():
        hierarchy, _, path = line.split(":", 2)
        if hierarchy == "0" and token in os.path.basename(path):
            found = mounted()
            return None if found is None else Group(found + path)
    return None


def mounted() -> str | None:
    """Where the hierarchy of groups is seen; None where there is none."""
    for line in _read("/proc/self/mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.startswith("cgroup2 "):
            return fields.split()[4]
    return None


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def _write(path: str, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY)
    except OSError:
        return
    try:
        os.write(fd, text.encode())
    except OSError:
        return
    finally:
        os.close(fd)
