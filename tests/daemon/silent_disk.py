"""A file system that answers until it is told to be silent, as of a server that is gone: FUSE by hand.

Whoever asks it something then hangs in the kernel until it is closed, or that process is killed, as with NFS.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import threading
from pathlib import Path

import pytest

LOOKUP, FORGET, GETATTR, STATFS, RELEASE, INIT, OPENDIR, READDIR = 1, 2, 3, 17, 18, 26, 27, 28
RELEASEDIR, ACCESS, FORGET_SOME = 29, 34, 42
IN = struct.Struct("<IIQQIIII")  # length, opcode, unique, node, user, group, pid, padding
OUT = struct.Struct("<IiQ")  # length, error, unique
FOLDER = struct.pack("<QQQQQQIIIIIIIII", 1, 0, 0, 0, 0, 0, 0, 0, 0, 0o40755, 2, 0, 0, 0, 4096) + bytes(4)
FORCE, DETACH = 1, 2  # umount2(2)
ANSWERS = {
    GETATTR: struct.pack("<QII", 0, 0, 0) + FOLDER,
    STATFS: struct.pack("<QQQQQIIII", 1000, 1000, 1000, 10, 10, 4096, 255, 4096, 0) + bytes(24),
    INIT: struct.pack("<IIIIHHII", 7, 12, 65536, 0, 0, 0, 65536, 0),
    OPENDIR: bytes(16),
    READDIR: b"",
    RELEASEDIR: b"",
    RELEASE: b"",
    ACCESS: b"",
}


class SilentDisk:
    """Mounted at `place`, an empty folder. Skips the test where that cannot be."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.asked = threading.Event()  # something that it does not answer
        self._silent = self._closed = False
        place.mkdir()
        try:
            self._fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            pytest.skip(f"no FUSE here: {error}")
        options = f"fd={self._fuse},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"silent", os.fsencode(place), b"fuse", 0, options) != 0:
            os.close(self._fuse)
            pytest.skip(f"FUSE cannot be mounted here: {os.strerror(ctypes.get_errno())}")
        self._umount = libc.umount2
        threading.Thread(target=self._serve, daemon=True).start()

    def fall_silent(self) -> None:
        self._silent = True

    def close(self) -> None:
        """Whoever hangs gets an error. May be called twice."""
        if not self._closed:
            self._closed = True
            self._umount(os.fsencode(self.place), FORCE | DETACH)
            os.close(self._fuse)

    def _serve(self) -> None:
        while select.select([self._fuse], [], []) and not self._silent:
            try:
                request = os.read(self._fuse, 1 << 17)
            except OSError:
                return
            _, opcode, unique, *_ = IN.unpack_from(request)
            if opcode in ANSWERS:
                os.write(self._fuse, OUT.pack(OUT.size + len(ANSWERS[opcode]), 0, unique) + ANSWERS[opcode])
            elif opcode not in (FORGET, FORGET_SOME):
                failure = errno.ENOENT if opcode == LOOKUP else errno.ENOSYS
                os.write(self._fuse, OUT.pack(OUT.size, -failure, unique))
        self.asked.set()  # what has been read must be answered: only what has not can be killed
