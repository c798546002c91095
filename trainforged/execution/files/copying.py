"""Copies of stored contents: a reflink where the file system can, else the bytes; never a hard link.

A content is checked against its hash before a job gets it: a small one each time, a large one once
for as long as its file is the same. Blocking; safe from several threads.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator

from trainforged.execution.durable import write_all
from trainforged.execution.errors import Damaged, MissingContent

_SMALL = 1 << 16  # bytes up to which a content is read whole
_CHUNK = 1 << 18
_FICLONE = 0x40049409  # an ioctl of linux/fs.h
_NOT_HERE = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EBADF}
)


class Copier:
    """`place` gives the path of a content in the store."""

    def __init__(self, place: Callable[[str], str]) -> None:
        self._place = place
        self._right: dict[str, tuple[int, ...]] = {}  # large contents, with the file that was checked

    def read(self, sha256: str) -> bytes:
        """The whole content. Raises MissingContent, Damaged, OSError."""
        with self._opened(sha256) as source:
            return self._checked(sha256, source)

    def copy(self, sha256: str, path: str, mode: int) -> None:
        """Make a new file of it, which its owner may read and write whatever `mode` says.

        Raises MissingContent, Damaged, OSError.
        """
        with self._opened(sha256) as source:
            target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.fchmod(target, (mode & 0o777) | 0o600)
                self._fill(sha256, source, target)
            finally:
                os.close(target)

    def _fill(self, sha256: str, source: int, target: int) -> None:
        status = os.fstat(source)
        if status.st_size <= _SMALL:
            write_all(target, self._checked(sha256, source))
            return
        file = (status.st_ino, status.st_size, status.st_mtime_ns)
        if self._right.get(sha256) != file:
            self._compare(sha256, _hash(source))
            self._right[sha256] = file
        if not _reflink(source, target):
            _copy(source, target)

    def _checked(self, sha256: str, source: int) -> bytes:
        with os.fdopen(source, "rb", closefd=False) as file:
            data = file.read()
        self._compare(sha256, hashlib.sha256(data).hexdigest())
        return data

    def _compare(self, sha256: str, found: str) -> None:
        if found != sha256:
            os.unlink(self._place(sha256))  # the name promises what is not there; it can be sent anew
            raise Damaged(
                f"its frozen content {sha256} was damaged on the disk; submit the project again to restore it"
            )

    @contextlib.contextmanager
    def _opened(self, sha256: str) -> Iterator[int]:
        try:
            fd = os.open(self._place(sha256), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise MissingContent(
                f"its frozen content {sha256} is not in the store; submit the project again to restore it"
            ) from None
        try:
            yield fd
        finally:
            os.close(fd)


def _hash(source: int) -> str:
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_CHUNK))
    while count := os.readv(source, [buffer]):
        digest.update(buffer[:count])
    os.lseek(source, 0, os.SEEK_SET)
    return digest.hexdigest()


def _reflink(source: int, target: int) -> bool:
    """Share the blocks until one of the two is written to. False where that cannot be."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _NOT_HERE:
            return False
        raise
    return True


def _copy(source: int, target: int) -> None:
    """In the kernel where it can, else through memory."""
    try:
        while os.copy_file_range(source, target, 1 << 30):
            pass
        return
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
    while data := os.read(source, _CHUNK):
        write_all(target, data)
