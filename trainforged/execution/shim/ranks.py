"""Who the ranks of an attempt are, and how each of them ended.

A rank connects to our abstract socket and says `{"rank": 0, "pid": 123}`; the kernel says who it
really is. Its death is seen through a pidfd: a fork that holds its socket hides nothing. Its status
is read from /proc while it is a zombie, or, reaped too soon, from the file its wrapper wrote.
"""

from __future__ import annotations

import os
import time

from trainforged.execution import processes
from trainforged.execution.shim.lean import parse, socket
from trainforged.execution.shim.locks import peer_pid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Watch = Callable[[int, Callable[[], None] | None], None]

LONGEST_GREETING = 4096
MOST_GREETERS = 128  # connections: a job that opens them in a loop must not use up our descriptors


def rank_end(rank: int, pid: int, status: int | None, error: str | None = None) -> dict[str, Any]:
    """A `RankEnd` in its JSON form, from a wait status."""
    end: dict[str, Any] = {"rank": rank, "pid": pid, "ended_at": time.time()}
    if status is not None:
        end.update(exit_fields(status))
    if error is not None:
        end["error"] = error
    return end


def exit_fields(status: int) -> dict[str, int]:
    """`exit_code` or `signal`, from a wait status."""
    code = os.waitstatus_to_exitcode(status)
    return {"exit_code": code} if code >= 0 else {"signal": -code}


class Ranks:
    """The ranks of one attempt. `watch(fd, handler)` calls the handler whenever fd is readable."""

    def __init__(self, folder: str, count: int, watch: Watch, ended: Callable[[int | None], None]) -> None:
        self.address = f"trainforge-ranks-{os.getpid()}-{os.urandom(8).hex()}"
        self.ends: list[dict[str, Any]] = []  # in order
        self._folder = folder
        self._count = count
        self._watch = watch
        self._say_ended = ended  # called with the wait status when one has ended
        self._pids: dict[int, int] = {}  # pid → rank, of those that run
        self._pidfds: dict[int, int] = {}
        self._greeters: dict[int, tuple[socket.socket, bytes]] = {}
        self._connections: list[socket.socket] = []  # of the greeted: a rank may see by it that we live
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(b"\0" + self.address.encode())
        self._listener.listen(count + 16)
        self._listener.setblocking(False)
        watch(self._listener.fileno(), self._accept)

    @property
    def running(self) -> bool:
        return bool(self._pids)

    @property
    def over(self) -> bool:
        """All of them have been, and have ended."""
        return len(self.ends) == self._count

    def reaped(self, pid: int, status: int) -> None:
        """The shim, as its parent by now, learnt how a process ended; perhaps it was a rank."""
        if pid in self._pids:
            self._ended(pid, status)

    def look(self) -> None:
        """Take in what is waiting: greetings first, then deaths."""
        self._accept()
        for fd in list(self._greeters):
            self._listen_to(fd)
        for pid in list(self._pids):
            self._died(pid)

    def _accept(self) -> None:
        while len(self._greeters) < MOST_GREETERS:
            try:
                fd, _ = self._listener._accept()  # type: ignore[attr-defined]  # of the C half
            except OSError:
                return
            connection = socket.socket(fileno=fd)
            connection.setblocking(False)
            self._greeters[fd] = connection, b""
            self._watch(fd, lambda fd=fd: self._listen_to(fd))  # type: ignore[misc]

    def _listen_to(self, fd: int) -> None:
        connection, said = self._greeters[fd]
        try:
            more = connection.recv(LONGEST_GREETING)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        said += more
        if b"\n" in said:
            self._greeted(said[: said.index(b"\n")], connection)
        elif more and len(said) < LONGEST_GREETING:
            self._greeters[fd] = connection, said
            return
        self._watch(fd, None)
        del self._greeters[fd]

    def _greeted(self, line: bytes, connection: socket.socket) -> None:
        try:
            rank = parse(line)["rank"]
        except (ValueError, KeyError, TypeError):
            return
        pid = peer_pid(connection)
        taken = set(self._pids.values()) | {end["rank"] for end in self.ends}
        if not isinstance(rank, int) or not 0 <= rank < self._count or rank in taken:
            return
        if pid <= 0 or pid in self._pids:  # 0: in a pid namespace that we cannot see into
            return
        self._connections.append(connection)
        self._pids[pid] = rank
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            self._died(pid)
            return
        self._pidfds[pid] = pidfd
        self._watch(pidfd, lambda: self._died(pid))

    def _died(self, pid: int) -> None:
        stat = processes.read_stat(pid)
        if stat is None or stat.over:
            self._ended(pid, None if stat is None else stat.exit_code)

    def _ended(self, pid: int, status: int | None) -> None:
        rank = self._pids.pop(pid)
        pidfd = self._pidfds.pop(pid, None)
        if pidfd is not None:
            self._watch(pidfd, None)
            os.close(pidfd)
        if status is None:
            status = self._written(rank)
        error = "ended without a status that anyone could read" if status is None else None
        self.ends.append(rank_end(rank, pid, status, error))
        self._say_ended(status)

    def _written(self, rank: int) -> int | None:
        """The wait status after what the rank's wrapper wrote; it writes only when it leaves by itself."""
        try:
            code = parse(processes.read_proc(f"{self._folder}/rank-{rank}.json"))["exit_code"]
        except (ValueError, KeyError, TypeError):
            return None
        return (code & 0xFF) << 8 if isinstance(code, int) else None
