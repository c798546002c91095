"""Whole new lines from the records files in an attempt's folder.

The files are the job's to write, so nothing about them is trusted: only regular files are opened, and
what is read at once is bounded.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import stat
from pathlib import Path

import msgspec

from trainforged.storage.metrics.ingestion import Place
from trainforged.storage.recordlines import LONGEST_LINE, Rubbish

LEAST = LONGEST_LINE + 1  # bytes to read at least: with fewer a long line could not be told

_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # linux/falloc.h
_FILE = re.compile(r"records-(\d{1,4})\.jsonl", re.ASCII)


class RecordsFile(msgspec.Struct, frozen=True):
    """One rank's file, as found; `size` in bytes."""

    path: Path
    rank: int
    size: int


class Chunk(msgspec.Struct, frozen=True):
    """Whole lines, and the place after them; `more` is True where the limit left something to read."""

    place: Place
    lines: tuple[bytes, ...] = ()
    skipped: tuple[Rubbish, ...] = ()
    more: bool = False


def files_in(folder: Path) -> list[RecordsFile]:
    """By rank; none where there is no such folder (yet)."""
    try:
        with os.scandir(folder) as entries:
            found = [
                RecordsFile(Path(entry.path), int(match[1]), entry.stat(follow_symlinks=False).st_size)
                for entry in entries
                if (match := _FILE.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False)
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(found, key=lambda file: file.rank)


def read_chunk(file: RecordsFile, place: Place, limit: int) -> Chunk | None:
    """What stands in `file` after `place`, from at most `limit` (`LEAST` or more) bytes; None: nothing new.

    Raises `OSError`.
    """
    if file.size == place.offset:
        return None
    if file.size < place.offset:
        return Chunk(Place(file.size), skipped=(Rubbish.TRUNCATED,))
    data, begins = _read(file, place.offset, limit)
    if begins - place.offset > LONGEST_LINE:  # a hole is no line: terabytes of it would keep an end untold
        skipped = () if place.in_long_line else (Rubbish.TOO_LONG,)
        return Chunk(Place(begins, True), (), skipped, more=begins < file.size)
    chunk = split(data, place, more=place.offset + len(data) < file.size and bool(data))
    return chunk if chunk.place != place else None


def give_back(path: Path, upto: int) -> None:
    """The first `upto` bytes take no room on the disk any more; they read as NULs. The file's size stays, so
    that neither who writes nor who reads notices. Raises `OSError`, also where there can be no holes."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            libc = ctypes.CDLL(None, use_errno=True)
            libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
            if libc.fallocate(descriptor, _KEEP_SIZE | _PUNCH_HOLE, 0, upto) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def split(data: bytes, place: Place, more: bool) -> Chunk:
    """The lines of `data`, which stands at `place`."""
    start = 0
    if place.in_long_line:
        start = data.find(b"\n") + 1
        if not start:
            return Chunk(Place(place.offset + len(data), True), more=more)
    end = max(start, data.rfind(b"\n") + 1)
    lines = tuple(data[start : end - 1].split(b"\n")) if end > start else ()
    if len(data) - end > LONGEST_LINE:
        return Chunk(Place(place.offset + len(data), True), lines, (Rubbish.TOO_LONG,), more)
    return Chunk(Place(place.offset + end), lines, (), more)


def _read(file: RecordsFile, offset: int, limit: int) -> tuple[bytes, int]:
    """What stands at `offset`, and where the next of the file begins that is no hole, `offset` or beyond."""
    descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b"", offset
        return os.pread(descriptor, limit, offset), _next_data(descriptor, offset, file.size)
    finally:
        os.close(descriptor)


def _next_data(descriptor: int, offset: int, size: int) -> int:
    try:
        return min(os.lseek(descriptor, offset, os.SEEK_DATA), size)
    except OSError as error:  # ENXIO: none up to the end
        return size if error.errno == errno.ENXIO and os.fstat(descriptor).st_size >= size else offset
