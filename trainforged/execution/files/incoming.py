"""One content on its way into the store: counted, hashed and written beside, until it is whole.

Blocking, and used by one thread at a time.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Iterator

from trainforged.execution.durable import write_all
from trainforged.execution.errors import DiskRefused, NoSpace, TooLarge, WrongContent

_BUFFER = 1 << 20  # bytes gathered before they are written


@contextlib.contextmanager
def told_plainly() -> Iterator[None]:
    """A full disk as NoSpace, one that is read-only or broken as DiskRefused; another OSError as it is."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"no space is left for the files of jobs ({error.strerror})") from error
        if error.errno in (errno.EROFS, errno.EIO):
            place = error.filename or "the state folder"
            raise DiskRefused(f"{place}: the disk refuses it ({error.strerror}); look at dmesg") from error
        raise


class Incoming:
    """Made without touching the disk; `name` or `discard` ends it."""

    def __init__(self, folder: str, sha256: str, limit: int) -> None:
        self._path = f"{folder}/{secrets.token_hex(8)}.part"
        self._sha256 = sha256
        self._limit = limit
        self._size = 0
        self._digest = hashlib.sha256()
        self._waiting: list[bytes] = []
        self._waits = 0
        self._fd = -1

    def add(self, chunk: bytes) -> bool:
        """Take a piece; True when it is time to `flush`. Raises TooLarge."""
        self._size += len(chunk)
        if self._size > self._limit:
            raise TooLarge(f"file {self._sha256}: more than the {self._limit} bytes that one may have")
        self._waiting.append(chunk)
        self._waits += len(chunk)
        return self._waits >= _BUFFER

    def flush(self) -> None:
        """Write and hash what waits. Raises NoSpace."""
        data = b"".join(self._waiting)
        self._waiting, self._waits = [], 0
        self._digest.update(data)
        with told_plainly():
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            write_all(self._fd, data)

    def complete(self, *, durable: bool) -> None:
        """Nothing more comes: check it, and if it is to be `durable`, put it on the disk."""
        self.flush()
        found = self._digest.hexdigest()
        if found != self._sha256:
            raise WrongContent(f"file {self._sha256}: {self._size} bytes came, with the hash {found}")
        with told_plainly():
            if durable:
                os.fsync(self._fd)

    def name(self, path: str) -> None:
        """Give it its name, after which it is the store's."""
        with told_plainly():
            os.rename(self._path, path)
        self._close()

    def discard(self) -> None:
        """Leave nothing behind. Does no harm to what is finished."""
        if self._fd >= 0:
            self._close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1
