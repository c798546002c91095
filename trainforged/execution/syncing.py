"""Getting many files onto the disk for the price of a few."""

from __future__ import annotations

import os
from collections.abc import Collection

_FEW = 8  # above: one sync of the whole file system, which is quicker but waits for other writers too


def sync_files(paths: Collection[str], top: str) -> None:
    """Return when these files, and the names in these folders, would survive a power cut.

    All of them lie below `top`, on its file system.
    """
    if len(paths) > _FEW:
        sync_file_system(top)
        return
    for path in paths:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def sync_file_system(path: str) -> None:
    """The one that holds `path`. Waits for all writers to it, so it may take seconds."""
    import ctypes

    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(fd)
