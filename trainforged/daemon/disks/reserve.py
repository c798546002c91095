"""A few megabytes kept on the disk of the state folder, for the day when it is full.

A full disk can only be freed by removing jobs, and a daemon only be started, if a little can be written. The
reserve is given up for that, and taken again when there is room.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from trainforged.storage.errors import StorageFull

SIZE = 8 << 20  # bytes
STEP = 1 << 20  # given up at a time: a commit takes some kilobytes
FOR_PEOPLE = 4 << 20  # what the daemon's own needs leave for somebody who removes jobs

T = TypeVar("T")


class Reserve:
    """All methods may be called in any thread. None of them raises."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "reserve"

    def take(self) -> None:
        """All of it. Without room for that there is what there was."""
        with contextlib.suppress(OSError):
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, SIZE)
            finally:
                os.close(fd)

    def give_up(self, least: int = 0) -> bool:
        """Free a step of it. False if no more than `least` bytes would be left."""
        try:
            left = os.stat(self._path).st_size - STEP
            if left < least:
                return False
            os.truncate(self._path, left)
        except OSError:
            return False
        return True

    def give_up_some(self) -> bool:
        """For the daemon itself."""
        return self.give_up(FOR_PEOPLE)

    def spend_on(self, work: Callable[[], T]) -> T:
        """What `work` returns; where the disk is too full for it, it is tried again with the reserve."""
        while True:
            try:
                return work()
            except StorageFull:
                if not self.give_up():
                    raise
