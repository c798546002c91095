"""Append records, what a job says of itself, to its rank's file in the attempt's folder.

Promises: one `write` per record on a file opened for appending, so that records of threads and of
forked processes never mix; nothing here raises because of the disk. A record that could not be
written is lost and counted, and stderr says so once. Outside a job there is no file, and records
go nowhere.

Part of the in-job half: standard library only, Python ≥ 3.9.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import time

from trainforge import protocol

TYPE_CHECKING = False  # `typing` would cost every start 10 ms and is for checkers alone
if TYPE_CHECKING:
    from typing import Any


def in_job() -> bool:
    """True in every process of an attempt."""
    return protocol.ATTEMPT_DIR in os.environ


def rank() -> int:
    """Which of the attempt's ranks this process is, as its launcher said. A script that was started
    alone may have started ranks of its own: then what torch.distributed says."""
    if world_size() > 1:
        return _number("RANK", 0)
    return place()[0]


def world_size() -> int:
    """How many ranks the launcher started."""
    return max(1, _number("WORLD_SIZE", 1))


def place() -> tuple[int, int]:
    """(rank, number of ranks) of torch.distributed where it is initialised, else as the launcher said."""
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return _number("RANK", 0), world_size()


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else default


def say(text: str) -> None:
    """One line on stderr. That it is closed, full or being written to (in a signal handler) is no error."""
    try:
        sys.stderr.write(f"trainforge: {text}\n")
        sys.stderr.flush()
    except (AttributeError, OSError, RuntimeError, ValueError):
        return


class Journal:
    """One records file. Safe to use from threads and after a fork without a lock."""

    def __init__(self, path: str) -> None:
        import json

        self._path = path
        self._encode = json.JSONEncoder(separators=(",", ":")).encode
        self._file: io.FileIO | None = None
        self._torn = False  # the last line in the file lacks its end
        self._lost = 0
        self._complained = False

    def append(self, record: dict[str, Any]) -> None:
        line = self._encode(record).encode("ascii") + b"\n"
        if self._torn:
            line = b"\n" + line
        try:
            file = self._file or self._open()
            written = file.write(line)
        except OSError as error:
            self._lose(error)
            return
        self._torn = written != len(line)
        if self._torn:
            self._lose(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        elif self._lost:
            say(f"records are written again; {self._lost} were lost")
            self._lost = 0

    def _open(self) -> io.FileIO:
        self._file = io.FileIO(self._path, "a")
        return self._file

    def _lose(self, error: OSError) -> None:
        """Count the record as lost. The next one opens the file anew: it may have been closed or removed."""
        self._lost += 1
        self._file = None
        if not self._complained:
            self._complained = True
            say(f"cannot write {self._path}: {error.strerror}; the job goes on, what it reports is lost")


_journal: Journal | None = None


def write(kind: str, **fields: Any) -> None:
    """Append one record of this kind, stamped with the time. Does nothing outside a job."""
    global _journal
    journal = _journal
    if journal is None:
        folder = os.environ.get(protocol.ATTEMPT_DIR)
        if folder is None:
            return
        path = os.path.join(folder, protocol.RECORDS.format(rank=rank()))
        _journal = journal = Journal(path)
    journal.append({"kind": kind, "time": time.time(), **fields})
