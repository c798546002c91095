"""SHA-256 of files, so that what is sent later is what was hashed.

A file is read through one descriptor and looked at before and after. One that changes meanwhile is
copied, and the copy is hashed and kept. Digests of large files are remembered between runs; source
code is small and always read.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time

import msgspec

from trainforge import caches

LARGE = 1 << 20  # bytes from which on a digest is remembered
SETTLED = 2_000_000_000  # ns; a younger file may change again without a change of its times
_CHUNK = 1 << 18


class Signature(msgspec.Struct, frozen=True, array_like=True):
    """Changes whenever a file's content does, as far as the file system tells."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, status: os.stat_result) -> Signature:
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What a file held. `copy` is a descriptor of a private copy, where the file would not hold still."""

    sha256: str
    mode: int
    signature: Signature
    copy: int | None = None


class Changed(Exception):
    """The file is not what it was when it was looked at; `args` has its path."""


def open_regular(path: str) -> int:
    """A descriptor. Raises OSError, or Changed where something else took the file's place."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise Changed(path) from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Changed(path)
    return fd


class Digests:
    """Hashes the files of one project. `save` keeps for the next time what is worth keeping."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._key = hashlib.sha256(os.fsencode(root)).hexdigest()[:32]
        self._known: dict[str, tuple[Signature, str]] | None = None
        self._seen: dict[str, tuple[Signature, str]] = {}

    def read(self, path: str) -> Content:
        """Hash the file at `path`, relative to the root. Raises OSError or Changed."""
        fd = open_regular(f"{self._root}/{path}")
        try:
            return self._read(path, fd)
        finally:
            os.close(fd)

    def save(self) -> None:
        if self._known is not None and self._seen != self._known:
            caches.store("digests", self._key, self._seen)

    def _read(self, path: str, fd: int) -> Content:
        started = time.time_ns()
        status = os.fstat(fd)
        signature, mode = Signature.of(status), stat.S_IMODE(status.st_mode) & 0o777
        large = signature.size >= LARGE
        digest = self._remembered(path, signature) if large else None
        if digest is None:
            digest = _hash(fd, signature.size)
            if Signature.of(os.fstat(fd)) != signature:
                copy, signature, digest = _copy(fd)
                return Content(sha256=digest, mode=mode, signature=signature, copy=copy)
        if large and max(signature.mtime_ns, signature.ctime_ns) < started - SETTLED:
            self._seen[path] = signature, digest
        return Content(sha256=digest, mode=mode, signature=signature)

    def _remembered(self, path: str, signature: Signature) -> str | None:
        if self._known is None:
            self._known = caches.load("digests", self._key, dict[str, tuple[Signature, str]]) or {}
        known, digest = self._known.get(path, (None, ""))
        return digest if known == signature and len(digest) == 64 else None


def _hash(fd: int, size: int) -> str:
    if size < _CHUNK:
        return hashlib.sha256(os.read(fd, size + 1)).hexdigest()
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_CHUNK))
    while count := os.readv(fd, [buffer]):
        digest.update(buffer[:count])
    return digest.hexdigest()


def _copy(fd: int) -> tuple[int, Signature, str]:
    """A copy without a name of what the file holds now; what is appended meanwhile stays out."""
    import tempfile

    left = os.fstat(fd).st_size
    os.lseek(fd, 0, os.SEEK_SET)
    digest = hashlib.sha256()
    with tempfile.TemporaryFile() as file:
        while left and (data := os.read(fd, min(left, _CHUNK))):
            digest.update(data)
            file.write(data)
            left -= len(data)
        file.flush()
        return os.dup(file.fileno()), Signature.of(os.fstat(file.fileno())), digest.hexdigest()
