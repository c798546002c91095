"""An attempt's folder: what its files say of it, and the last word where nobody else has it.

    launch.json   the order; written before the shim is started
    lock          held by the shim for as long as it lives
    shim.json     who the shim is; from then on the attempt may have run
    exit.json     how it ended; the last word
    rank-<r>.json how a rank ended, by its own account: untrusted

Each is written in one step, `shim.json` and `exit.json` durably. The job can write here too, and put anything
in their place: what is no file, or cannot be read, is as good as none. Functions here block: call them off
the loop.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from trainforge.protocol import RANK_STATUS
from trainforged.core.messages import AttemptEnd, RankEnd
from trainforged.execution import durable, processes
from trainforged.execution.launch import LaunchFile
from trainforged.execution.observing import kernel_log
from trainforged.execution.shim.group import mounted
from trainforged.execution.starting import groups

LARGEST = 1 << 20  # bytes that are read of a file
NO_FILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})  # said of what is none
LONGEST_TRACEBACK = 1 << 16  # characters
LONGEST_MESSAGE = 1 << 12
LONGEST_TAIL = 1 << 12  # bytes of what a failing rank wrote last
MOST_TAILS = 8
# Of a checkpoint that found no room: no evidence against a rank that went on, and was killed later.
WENT_ON = re.compile(r"^(trainforge: checkpoint .* was not written): .*(; training goes on)$", re.M)

T = TypeVar("T")


class Shim(msgspec.Struct, frozen=True, kw_only=True):
    """`shim.json`: a process, and beyond doubt that one."""

    pid: Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
    start_time: int
    boot_id: str
    time: float


class RankReport(msgspec.Struct, frozen=True, kw_only=True):
    """`rank-<r>.json`."""

    class Error(msgspec.Struct, frozen=True, kw_only=True):
        type: str
        message: str = ""
        traceback: str | None = None

    rank: int
    pid: int | None = None
    exit_code: Annotated[int, msgspec.Meta(ge=0, le=255)] | None = None
    error: Error | None = None
    ended_at: float | None = None


class Written(msgspec.Struct, frozen=True):
    """`exit.json`, where a shim wrote it: during which run of the machine."""

    boot_id: str | None = None


class Fresh(msgspec.Struct, frozen=True):
    """Nothing has run here."""


class Beginning(msgspec.Struct, frozen=True):
    """A shim has the lock, and is about to say who it is."""


class Running(msgspec.Struct, frozen=True):
    """Its shim lives. `pidfd` is the caller's to close."""

    shim: Shim
    pidfd: int


class Vanished(msgspec.Struct, frozen=True):
    """Its shim is gone, and left no word of how it ended."""

    shim: Shim


class Ended(msgspec.Struct, frozen=True):
    end: AttemptEnd


Found = Fresh | Beginning | Running | Vanished | Ended


class AttemptFolder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def look(self) -> Found:
        """What became of the attempt, as far as it is known."""
        if (end := self.end()) is not None:
            return Ended(end)
        shim = self._read("shim.json", Shim)
        if shim is None:
            return self._look_for_a_beginning()
        pidfd = open_shim(shim)
        if pidfd is not None:
            return Running(shim, pidfd)
        end = self.end()  # it may have ended since the first look
        return Vanished(shim) if end is None else Ended(end)

    def end(self) -> AttemptEnd | None:
        """`exit.json`, with what the ranks said of themselves. None if there is no (readable) one."""
        end = self._read("exit.json", AttemptEnd)
        return None if end is None else self._whole(end)

    def conclude(self, end: AttemptEnd) -> AttemptEnd | None:
        """Make `end` the last word, unless there is one: whichever it is, is returned.

        From then on a shim that was started before, and is late, leaves. None if a shim has the
        lock after all: then look again. Raises OSError if it cannot be written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with self._lock() as locked:
            if not locked:
                return None
            known = self.end()
            if known is not None:
                return known
            durable.write(f"{self.path}/exit.json", msgspec.json.encode(end))
        return self._whole(end)

    def write_order(self, order: LaunchFile) -> None:
        durable.replace(f"{self.path}/launch.json", msgspec.json.encode(order))

    def write_grace(self, grace: float) -> None:
        """For the shim to read when it is told to stop."""
        durable.replace(f"{self.path}/stop.json", msgspec.json.encode({"grace": grace}))

    def token(self) -> str | None:
        """The mark on every process of the attempt; None if none was ever started."""
        order = self._read("launch.json", LaunchFile)
        return None if order is None else order.token

    def group(self) -> str | None:
        """The folder of its control group; None where it has none of its own, or what is said is none."""
        order = self._read("launch.json", LaunchFile)
        if order is None or order.group is None:
            return None
        ours = os.path.basename(order.group) == groups.name(order.token)
        return order.group if ours and order.group.startswith(f"{mounted()}/") else None

    def new_token(self, job: int, attempt: int) -> str:
        """The attempt's mark, made the first time. A former daemon's shim may carry it already."""
        return self.token() or f"{job}-{attempt}-{secrets.token_hex(8)}"

    def last_words(self) -> str:
        """What the shim said on its standard error: nothing, unless it failed itself."""
        try:
            lines = (self.path / "shim.log").read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""

    def _look_for_a_beginning(self) -> Fresh | Beginning:
        if not (self.path / "launch.json").exists():
            return Fresh()
        with self._lock() as locked:
            return Fresh() if locked else Beginning()

    @contextlib.contextmanager
    def _lock(self) -> Iterator[bool]:
        fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            yield _try_lock(fd)
        finally:
            os.close(fd)

    def _read(self, name: str, kind: type[T]) -> T | None:
        try:
            return msgspec.json.decode(self._content(name), type=kind)
        except msgspec.DecodeError:
            return None  # torn or foreign: as good as none

    def _content(self, name: str) -> bytes:
        """Of a file; empty for what is none. Raises OSError where the disk does."""
        try:
            fd = self._open(name)
        except PermissionError:
            self._take_back(name)
            fd = self._open(name)
        if fd is None:
            return b""
        with open(fd, "rb") as file:
            return file.read(LARGEST)

    def _open(self, name: str) -> int | None:
        """A descriptor; None where there is no file, whatever else the job put there."""
        try:
            fd = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in NO_FILE:
                return None
            raise
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        return None

    def _take_back(self, name: str) -> None:
        """The right to read, which the job took from us: all of this is its user's, as we are."""
        for folder in (self.path.parents[1], self.path.parent, self.path):
            os.chmod(folder, 0o700)
        with contextlib.suppress(FileNotFoundError):
            os.chmod(self.path / name, durable.MODE)

    def _whole(self, end: AttemptEnd) -> AttemptEnd:
        end = self._with_ranks(end)
        rebooted = end.rebooted or self._went_down_with_the_machine(end)
        end = msgspec.structs.replace(end, tails=self._tails(end), refused={}, rebooted=rebooted)
        return end if rebooted or end.stopped else self._with_the_kernels_word(end)

    def _with_the_kernels_word(self, end: AttemptEnd) -> AttemptEnd:
        """Add what the kernel's log says of a kill for want of memory, where the end looks like one."""
        shim = self._read("shim.json", Shim)
        token = self.token()
        if shim is None or token is None or not kernel_log.looks_killed(end):
            return end
        pids = frozenset(rank.pid for rank in end.ranks if rank.pid is not None)
        return msgspec.structs.replace(end, oom_log=kernel_log.oom_kill(token, pids, since=shim.time))

    def _went_down_with_the_machine(self, end: AttemptEnd) -> bool:
        """It was asked to stop, in time or not, and the machine was restarted before anybody could read that.

        What failed by itself in the meantime has a status of its own.
        """
        if not end.stopped and (end.signal != signal.SIGKILL or end.oom_kills):
            return False
        written = self._read("exit.json", Written)
        return written is not None and written.boot_id not in (None, processes.boot_id())

    def _tails(self, end: AttemptEnd) -> dict[int, str]:
        """The last that was written by those who failed and left no exception."""
        silent = [rank.rank for rank in end.ranks if (rank.exit_code or rank.signal) and not rank.error_type]
        if not end.ranks and (end.exit_code or end.signal):
            silent = [0]
        names = {rank: f"rank-{rank}.log" if len(end.ranks) > 1 else "output.log" for rank in silent}
        some = list(names.items())[:MOST_TAILS]
        tails = {rank: self._tail(name) + end.refused.get(rank, "") for rank, name in some}
        killed = {rank.rank for rank in end.ranks if rank.signal} or ({0} if end.signal else set())
        return {rank: WENT_ON.sub(r"\1\2", said) if rank in killed else said for rank, said in tails.items()}

    def _tail(self, name: str) -> str:
        try:
            if (fd := self._open(name)) is None:
                return ""
            with open(fd, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LONGEST_TAIL))
                return file.read(LONGEST_TAIL).decode(errors="replace")
        except OSError:
            return ""

    def _with_ranks(self, end: AttemptEnd) -> AttemptEnd:
        """Add what the ranks wrote themselves; those that nobody saw end come last."""
        reports = self._reports(order.ranks if (order := self._read("launch.json", LaunchFile)) else 0)
        ranks = [_merge(rank, reports.pop(rank.rank, None)) for rank in end.ranks]
        rest = sorted(reports.values(), key=lambda report: report.ended_at or 0.0)
        ranks += [_merge(RankEnd(rank=report.rank), report) for report in rest]
        return msgspec.structs.replace(end, ranks=tuple(ranks))

    def _reports(self, ranks: int) -> dict[int, RankReport]:
        """Of those ranks that there are; a command has none."""
        found = {rank: self._read(RANK_STATUS.format(rank=rank), RankReport) for rank in range(ranks)}
        return {rank: report for rank, report in found.items() if report is not None and report.rank == rank}


def open_shim(shim: Shim) -> int | None:
    """A pidfd of exactly that process; None if it lives no more."""
    if shim.boot_id != processes.boot_id():
        return None
    try:
        pidfd = os.pidfd_open(shim.pid)
    except OSError:
        return None
    stat = processes.read_stat(shim.pid)
    if stat is not None and stat.start_time == shim.start_time and not stat.over:
        return pidfd
    os.close(pidfd)
    return None


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _merge(seen: RankEnd, report: RankReport | None) -> RankEnd:
    """What the shim saw comes first; the report adds the reason, and the code if it was not seen."""
    if report is None:
        return seen
    unseen = seen.exit_code is None and seen.signal is None
    told: dict[str, object] = {"pid": seen.pid or report.pid, "ended_at": seen.ended_at or report.ended_at}
    if unseen:
        told["exit_code"] = report.exit_code
    if report.error is not None:
        error = report.error
        told["error_type"] = error.type[:LONGEST_MESSAGE]
        told["error"] = (f"{error.type}: {error.message}" if error.message else error.type)[:LONGEST_MESSAGE]
        told["traceback"] = error.traceback and error.traceback[-LONGEST_TRACEBACK:]
    return msgspec.structs.replace(seen, **told)
