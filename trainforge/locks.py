"""Files that one process at a time holds, and that say which: of a state folder, of a socket."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time

LONGEST_START = 5.0  # seconds that a program which was being started keeps what its dead parent had
PAUSE = 0.01


def take(descriptor: int) -> bool:
    """Hold the open file for this process, and write into it whose it is; false where another has it.

    A program that is being started has its parent's descriptors for a moment: the lock of a dead process is
    waited for. Raises `OSError` where the file system knows no locks.
    """
    limit = time.monotonic() + LONGEST_START
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            pid = holder(descriptor)
            if time.monotonic() > limit or (pid is not None and lives(pid)):
                return False
            time.sleep(PAUSE)
    with contextlib.suppress(OSError):  # it holds also where a full disk keeps its holder's name out
        os.pwrite(descriptor, b"%-20d\n" % os.getpid(), 0)
    return True


def holder(descriptor: int) -> int | None:
    """The process that wrote itself into the file last, if one did."""
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else None


def lives(pid: int) -> bool:
    """The process is there, and more than an exit status that nobody has fetched."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")
