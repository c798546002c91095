"""SHA-256 of files, so that what is sent later is what was hashed.

Small files, source code above all, are read once and held. A large file is hashed and looked at
before and after; one that changes meanwhile, or was written to just now, is copied, and the copy is
hashed and held. Digests of large files that have settled are remembered between runs.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import time

import msgspec

from trainforge.project import caches

LARGE = 1 << 20  # bytes
SETTLED = 2_000_000_000  # ns; a younger file may change again, and without a change of its times
_MOST_HELD = 64 << 20  # bytes of small files held in memory; the rest is trusted to hold still
_MOST_COPIED = 256 << 20  # bytes of large files copied for being young
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
    """What a file held. `held` has it: bytes, or the descriptor of a private copy; None means that
    the file itself has it for as long as its signature stays."""

    sha256: str
    size: int
    mode: int
    signature: Signature
    held: bytes | int | None = None


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
        self._room_in_memory = _MOST_HELD
        self._room_for_copies = _MOST_COPIED

    def read(self, path: str) -> Content:
        """Hash the file at `path`, relative to the root. Raises OSError or Changed."""
        fd = open_regular(f"{self._root}/{path}")
        try:
            status = os.fstat(fd)
            return self._large(path, fd, status) if status.st_size >= LARGE else self._small(fd, status)
        finally:
            os.close(fd)

    def save(self) -> None:
        if self._known is not None and self._seen != self._known:
            caches.store("digests", self._key, self._seen)

    def _small(self, fd: int, status: os.stat_result) -> Content:
        data = os.read(fd, status.st_size + 1)
        held = data if len(data) <= self._room_in_memory else None
        self._room_in_memory -= len(held or b"")
        return _content(status, hashlib.sha256(data).hexdigest(), len(data), held)

    def _large(self, path: str, fd: int, status: os.stat_result) -> Content:
        signature, size = Signature.of(status), status.st_size
        young = max(status.st_mtime_ns, status.st_ctime_ns) > time.time_ns() - SETTLED
        digest = self._remembered(path, signature)
        if digest is None:
            if young and size <= self._room_for_copies:
                self._room_for_copies -= size
                with contextlib.suppress(OSError):  # no room for it: then it has to hold still
                    return _copied(fd, status)
                os.lseek(fd, 0, os.SEEK_SET)
            digest = _hash(fd)
            if Signature.of(os.fstat(fd)) != signature:
                return _copied(fd, status)
        if not young:
            self._seen[path] = signature, digest
        return _content(status, digest, size, None)

    def _remembered(self, path: str, signature: Signature) -> str | None:
        if self._known is None:
            self._known = caches.load("digests", self._key, dict[str, tuple[Signature, str]]) or {}
        known, digest = self._known.get(path, (None, ""))
        return digest if known == signature and len(digest) == 64 else None


def _content(status: os.stat_result, sha256: str, size: int, held: bytes | int | None) -> Content:
    mode = stat.S_IMODE(status.st_mode) & 0o777
    return Content(sha256=sha256, size=size, mode=mode, signature=Signature.of(status), held=held)


def _hash(fd: int) -> str:
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_CHUNK))
    while count := os.readv(fd, [buffer]):
        digest.update(buffer[:count])
    return digest.hexdigest()


def _copied(fd: int, status: os.stat_result) -> Content:
    """By way of a copy without a name. What is appended from now on stays out."""
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
        return _content(status, digest.hexdigest(), file.tell(), os.dup(file.fileno()))
