"""A command on a terminal of its own, 120 × 40."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence

ROWS, COLUMNS = 40, 120


def run_on_terminal(argv: Sequence[str], env: Mapping[str, str]) -> float:
    """Seconds from before the process is made to its end, with everything it drew taken off."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    began = time.perf_counter()
    process = subprocess.Popen(
        argv, env={**env, "TERM": "xterm-256color"}, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    try:
        drawn = b"".join(iter(lambda: _read(ours), b""))
        if process.wait() != 0:
            raise RuntimeError(f"{argv} ended with {process.returncode}: {drawn.decode()[-2000:]}")
    finally:
        os.close(ours)
    return time.perf_counter() - began


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # the last process has closed its side
        return b""
