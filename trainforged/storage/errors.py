"""The errors of storage. sqlite3's are translated into these once, by `translated`.

Mistakes of our own (broken SQL, a constraint violated, a closed database) are not translated.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec


class StorageError(Exception):
    """What was asked for was not done, and nothing has changed."""


class StorageFull(StorageError):
    """No room on the disk, or the quota is used up."""


class StorageBroken(StorageError):
    """The disk or the file cannot be used: an I/O error, read-only, locked by another program."""


class StorageDamaged(StorageBroken):
    """The database's contents are not what was written. Nothing is repaired or replaced on its own."""


class StorageTooNew(StorageError):
    """The database was written by a newer version of TrainForge."""


class StateDirRefused(StorageError):
    """The state folder lies where its promises cannot be kept."""


class StateDirBusy(StorageError):
    """Another daemon holds the state folder; `pid` is its process, where it is known."""

    def __init__(self, message: str, pid: int | None) -> None:
        super().__init__(message)
        self.pid = pid


class DuplicateRequest(StorageError):
    """A job with this request id exists already, or is added twice in one commit."""

    def __init__(self, user: str, request_id: str) -> None:
        super().__init__(f"request {request_id!r} of {user} has made a job already")
        self.user = user
        self.request_id = request_id


_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_SHORT = sqlite3.SQLITE_IOERR_SHORT_READ  # the file, or its log, ends before it should
_NOT_OURS_TO_TRANSLATE = (sqlite3.IntegrityError, sqlite3.ProgrammingError)
_PROBE = b"\0" * 65536


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn errors of sqlite3, and of the system, about the database at `path` into ours."""
    try:
        yield
    except _NOT_OURS_TO_TRANSLATE:
        raise
    except msgspec.DecodeError as error:
        raise StorageDamaged(f"{path} is damaged: a row in it cannot be read: {error}") from error
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise StorageDamaged(f"{path} is damaged: {error}") from error
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code == sqlite3.SQLITE_ERROR:
            raise
        raise _translation(code, error, path) from error
    except OSError as error:
        kind = StorageFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageBroken
        raise kind(f"{path}: {error.strerror or error}") from error


def is_damage(error: sqlite3.Error) -> bool:
    """The contents are not what was written."""
    if "Could not decode to UTF-8" in str(error):  # which Python says, without a code
        return True
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF in _DAMAGED or code == _SHORT


def _translation(code: int, error: sqlite3.Error, path: Path) -> StorageError:
    refused = _refusal(path.parent) if code == sqlite3.SQLITE_IOERR else None
    if code == sqlite3.SQLITE_FULL or refused in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"no room for {path}: free space on its disk, or raise the quota")
    why = f"{error} ({os.strerror(refused)}; look at dmesg)" if refused is not None else str(error)
    return StorageBroken(f"{path} cannot be used: {why}")


def _refusal(folder: Path) -> int | None:
    """With which error of the system writing fails there: SQLite calls a used-up quota an I/O error too."""
    probe = folder / f".room-{os.getpid()}"
    try:
        probe.write_bytes(_PROBE)
    except OSError as error:
        return error.errno
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return None
