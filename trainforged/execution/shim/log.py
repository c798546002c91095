"""One log on disk: within a cap, its middle lost first, and never a reason for the attempt to stop.

For a stem (`output`; also `rank-<r>` where several ranks run) up to three files, in order of time:

    <stem>.head.log   the first part, kept; there once the log was rotated
    <stem>.prev.log   the part before the newest; there from the second rotation on
    <stem>.log        the newest part

Parts change their place by rename only, so a reader may keep its descriptor, read to the end and
open `<stem>.log` anew when its inode has changed (it may be missing for an instant). What was
dropped between head and prev is stated at the end of head.
"""

from __future__ import annotations

import os

LEAST = 4096  # bytes of a part: a cap below four of these is not obeyed


KEPT = 800  # bytes of what the disk refused


class Log:
    """One stem. Takes at most `limit` bytes of disk, and loses the middle first.

    `alias` is a second stem, in the same folder, under which every part is found too.
    """

    def __init__(self, stem: str, limit: int, alias: str | None = None) -> None:
        self._stem = stem
        self._alias = alias
        self._limits = {"head": max(LEAST, limit // 4), "prev": max(LEAST, limit * 3 // 8)}
        self._becomes = "head"  # the newest part, once it is full
        self._head_size = 0
        self._cut = 0
        self._lost = 0  # not written since the disk refused it
        self._ends_a_line = True
        self.refused = b""  # the last of what the disk refused, until it takes some again
        self._fd = self._open(f"{stem}.log")
        self._name_too("log")
        self._size = os.fstat(self._fd).st_size  # the attempt's preparation may have said something

    def write(self, data: bytes) -> None:
        """Append. Never raises: what cannot be written is counted, and stated when it can."""
        lost = self._lost
        rest = (_statement(f"{lost} bytes of output lost: the disk refused them") if lost else b"") + data
        try:
            while rest:
                rest = rest[self._append(rest) :]
            self._lost = 0
            self.refused = b""
        except OSError:
            self.refused = (self.refused + data)[-KEPT:]
            self._lost = len(rest) if len(rest) <= len(data) else lost + len(data)

    def _append(self, data: bytes) -> int:
        """Write what fits into the part, up to the end of a line; how much that was."""
        room = self._limits[self._becomes] - self._size
        fits = data if len(data) <= room else data[: data.rfind(b"\n", 0, max(0, room)) + 1]
        if not fits and (room <= 0 or (self._ends_a_line and self._size)):
            self._rotate()
            return 0
        fits = fits or data[:room]  # a line longer than a part
        written = os.write(self._fd, fits)
        self._size += written
        self._ends_a_line = fits[written - 1 : written] == b"\n"
        if len(fits) < len(data):
            self._size = self._limits[self._becomes]  # full, as far as whole lines go
        return written

    def _rotate(self) -> None:
        part, log, new = (f"{self._stem}.{kind}" for kind in (f"{self._becomes}.log", "log", "log.new"))
        dropped = _size_of(part)
        fd = self._open(new)  # first, so that a disk without room changes nothing
        self._name_too(f"{self._becomes}.log")
        os.rename(log, part)
        os.rename(new, log)
        os.close(self._fd)
        self._fd, self._size = fd, 0
        if self._becomes == "head":
            self._head_size = _size_of(part)
            self._becomes = "prev"
        elif dropped:
            self._cut += dropped
            self._state_cut()

    def _name_too(self, kind: str) -> None:
        if self._alias is None:
            return
        try:
            os.symlink(f"{os.path.basename(self._stem)}.{kind}", f"{self._alias}.{kind}")
        except FileExistsError:
            return

    def _state_cut(self) -> None:
        fd = os.open(f"{self._stem}.head.log", os.O_WRONLY)
        try:
            os.pwrite(fd, _statement(f"{self._cut:015} bytes of output are left out here"), self._head_size)
        finally:
            os.close(fd)

    @staticmethod
    def _open(path: str) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def _statement(text: str) -> bytes:
    return f"\n[trainforge: {text}]\n".encode()


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
