"""Files that are whole or absent, also after a power cut.

Standard library only: the shim uses it too.
"""

from __future__ import annotations

import os

MODE = 0o600  # they may hold secrets


def write(path: str, data: bytes) -> None:
    """Put `data` at `path` in one step and onto the disk. Raises OSError and leaves the old file."""
    _put(path, data, sync=True)
    sync_folder(os.path.dirname(path))


def replace(path: str, data: bytes) -> None:
    """The same without waiting for the disk: for what means nothing after a power cut."""
    _put(path, data, sync=False)


class Room:
    """A place for a file, taken on the disk beforehand: the disk may be full by the time it is written."""

    def __init__(self, path: str, size: int) -> None:
        self._path = path
        self._beside = f"{path}.room"
        self._fd = os.open(self._beside, os.O_WRONLY | os.O_CREAT, MODE)
        try:
            os.posix_fallocate(self._fd, 0, size)
        except OSError:
            return  # full already, or a file system that cannot: the room is then what it has at the end

    def write(self, data: bytes) -> None:
        """Fill the place, cut it to size, and give it its name for good."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        write_all(self._fd, data)
        os.ftruncate(self._fd, len(data))
        os.fsync(self._fd)
        os.rename(self._beside, self._path)
        sync_folder(os.path.dirname(self._path))


def sync_folder(path: str) -> None:
    """Make names created, renamed or removed in this folder last."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """`os.write` until everything is written."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _put(path: str, data: bytes, *, sync: bool) -> None:
    beside = f"{path}.{os.getpid()}.new"
    try:
        _fill(beside, data, sync)
        os.rename(beside, path)
    except OSError:
        _forget(beside)
        raise


def _fill(path: str, data: bytes, sync: bool) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, MODE)
    try:
        write_all(fd, data)
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return  # it was never made, or cannot be removed: it harms nobody
