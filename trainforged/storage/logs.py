"""The output of an attempt, as its shim keeps it: the end of it, or all of it while it grows.

For each name (`output`, merged, and `rank-<r>`) a folder holds up to three files, in order of time:

    <name>.head.log   the first part, kept for good; there once the output was rotated
    <name>.prev.log   the part before the newest; there from the second rotation on
    <name>.log        the newest part, which grows; rotation renames it and begins a new one

What was cut between head and prev is said in words at the end of head. A single rank's log is a link to
output's. Bytes are given as the job wrote them, and memory is bounded whatever they are.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path

CHUNK = 64 * 1024
LONGEST_TAIL = 16 * 2**20  # bytes in which the beginnings of lines are looked for
POLL_SECONDS = 0.1

_MERGED = "output"


def tail(folder: Path, name: str, lines: int) -> bytes:
    """The last `lines` lines, or fewer where they are longer than `LONGEST_TAIL`; empty where nothing is."""
    log = Log(folder, name, lines)
    try:
        return b"".join(_up_to(LONGEST_TAIL, iter(log.read, b"")))
    finally:
        log.close()


async def follow(
    folder: Path, name: str, ended: Callable[[], bool], lines: int | None = None
) -> AsyncGenerator[bytes, None]:
    """All output from its first byte (or its last `lines` lines) on, in chunks of at most `CHUNK`, until
    `ended()` is true and everything has been given.

    Output may begin later than this. A reader so slow that two rotations pass it by misses what they cut.
    """
    log = Log(folder, name, lines)
    try:
        while True:
            last = ended()  # asked before the read that finds nothing more
            while log.has_news():
                chunk = log.read_at_once() or await asyncio.to_thread(log.read)
                if not chunk:
                    break
                yield chunk
            if last:
                return
            await asyncio.sleep(POLL_SECONDS)
    finally:
        log.close()


class Log:
    """A place in the output, which moves on with `read`: at first its beginning, or where its last `lines`
    lines begin."""

    def __init__(self, folder: Path, name: str, lines: int | None = None) -> None:
        self._folder = folder
        self._name = name
        self._using = threading.Lock()
        self._closed = False
        self._lines = lines  # None once the place is found
        self._part: Part | None = None

    def read(self) -> bytes:
        """The next chunk; empty where there is nothing more (yet)."""
        with self._using:
            if self._lines is not None and not self._closed:
                self._part, self._lines = _last_lines(self._parts(), self._lines), None
            while not self._closed:
                data = self._part.read() if self._part is not None else b""
                following = None if data else self._following()
                if following is None:
                    return data
                if self._part is not None and (data := self._part.read()):
                    following.close()  # the last bytes were written between the read above and the rename
                    return data
                self._leave(following)
        return b""

    def read_at_once(self) -> bytes:
        """As `read`, of what was just written and lies in the system's memory: nobody waits for a disk or a
        thread. Empty where only `read` can tell."""
        with self._using:
            return self._part.read_at_once() if self._part is not None and self._lines is None else b""

    def has_news(self) -> bool:
        """False if `read` would find nothing. Costs two looks at the disk."""
        try:
            newest = os.stat(self._folder / f"{self._stem()}.log", follow_symlinks=False)
        except OSError:  # nothing yet, or between two steps of a rotation
            return True
        return self._part is None or newest.st_ino != self._part.inode or self._part.has_more()

    def close(self) -> None:
        """Waits for a `read` in another thread."""
        with self._using:
            self._closed = True
            self._leave(None)

    def _leave(self, following: Part | None) -> None:
        if self._part is not None:
            self._part.close()
        self._part = following

    def _following(self) -> Part | None:
        """The file that goes on where the present one ends (the first, if there is none).

        When the present one is gone, it was older than prev.
        """
        parts = self._parts()
        inodes = [part.inode for part in parts]
        if self._part is None:
            at = 0
        elif self._part.inode in inodes:
            at = inodes.index(self._part.inode) + 1
        else:
            at = sum(part.is_head for part in parts)
        for part in parts[:at] + parts[at + 1 :]:
            part.close()
        return parts[at] if at < len(parts) else None

    def _parts(self) -> list[Part]:
        """Oldest first. Opened newest first: a rotation meanwhile shows a file twice, but hides none."""
        stem = self._stem()
        parts: list[Part] = []
        for suffix in (".log", ".prev.log", ".head.log"):
            part = Part.open(self._folder / f"{stem}{suffix}", is_head=suffix == ".head.log")
            if part is not None and parts and part.inode == parts[0].inode:
                parts.pop(0).close()
            if part is not None:
                parts.insert(0, part)
        return parts

    def _stem(self) -> str:
        """No link is followed but the one that the shim makes."""
        try:
            target = os.readlink(self._folder / f"{self._name}.log")
        except OSError:
            return self._name
        return _MERGED if target == f"{_MERGED}.log" else self._name


class Part:
    """One file, held open: it stays the same whatever it is renamed to."""

    def __init__(self, descriptor: int, inode: int, is_head: bool) -> None:
        self.inode = inode
        self.is_head = is_head
        self._descriptor = descriptor
        self._offset = 0

    @classmethod
    def open(cls, path: Path, is_head: bool) -> Part | None:
        """None where there is no regular file that can be read."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            return cls(descriptor, found.st_ino, is_head)
        os.close(descriptor)
        return None

    def has_more(self) -> bool:
        return os.fstat(self._descriptor).st_size != self._offset

    def read(self) -> bytes:
        """The next chunk; empty at the end. A file that was cut short is read from its beginning. A hole,
        which no shim makes but a job may, is passed at once, however large."""
        size = os.fstat(self._descriptor).st_size
        if size < self._offset:
            self._offset = 0
        try:
            self._offset = os.lseek(self._descriptor, self._offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                self._offset = size
                return b""
        data = os.pread(self._descriptor, CHUNK, self._offset)
        self._offset += len(data)
        return data

    def read_at_once(self) -> bytes:
        """All that is left, if that is one chunk, not at a hole, and in memory; else empty."""
        left = os.fstat(self._descriptor).st_size - self._offset
        if not 0 < left <= CHUNK:
            return b""
        data = bytearray(left)
        try:
            if os.lseek(self._descriptor, self._offset, os.SEEK_DATA) != self._offset:
                return b""
            count = os.preadv(self._descriptor, [data], self._offset, os.RWF_NOWAIT)
        except OSError:  # not in memory, or a file system that cannot tell
            return b""
        self._offset += count
        return bytes(data[:count])

    def go_to_end(self) -> None:
        self._offset = os.fstat(self._descriptor).st_size

    def go_back(self, most: int) -> bytes:
        """Moves back by at most `most` bytes and returns what stands there; empty at the beginning."""
        start = max(0, self._offset - min(most, CHUNK))
        data = os.pread(self._descriptor, self._offset - start, start)
        self._offset = start
        return data

    def skip(self, count: int) -> None:
        self._offset += count

    def close(self) -> None:
        os.close(self._descriptor)


def _last_lines(parts: list[Part], lines: int) -> Part | None:
    """The part in which the last `lines` lines begin, at their place; the others are closed."""
    chosen = _search(parts, lines) or (parts[0] if parts else None)
    for part in parts:
        if part is not chosen:
            part.close()
    return chosen


def _search(parts: list[Part], lines: int) -> Part | None:
    """Goes back from the end until so many lines or `LONGEST_TAIL` bytes are passed; None: all of it."""
    budget, at_end = LONGEST_TAIL, True
    for part in reversed(parts):
        part.go_to_end()
        if lines <= 0:
            return part
        while budget > 0 and (data := part.go_back(budget)):
            text = data[:-1] if at_end and data.endswith(b"\n") else data  # it ends the last line
            at_end = False
            found = text.count(b"\n")
            if found >= lines:
                part.skip(len(text) - len(b"\n".join(text.split(b"\n")[-lines:])))
                return part
            lines -= found
            budget -= len(data)
        if budget <= 0:
            return part
    return None


def _up_to(limit: int, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Chunks until `limit` bytes are reached: the end may be growing as fast as it is read."""
    for chunk in chunks:
        yield chunk
        limit -= len(chunk)
        if limit <= 0:
            return
