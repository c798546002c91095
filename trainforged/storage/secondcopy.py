"""A second copy of a database that is open, for the day when the first is torn under the daemon.

`copy-N.db` is the database as it was at one moment, and `commits-N` are the commits since, as the core's
changes: together they are the whole of it. Nothing here is synced: after a crash of the machine the database
alone counts, and each daemon begins its copy anew.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from trainforged.core import messages as m
from trainforged.storage.database import Database
from trainforged.storage.errors import StorageDamaged, translated
from trainforged.storage.jobs.submission import Submission
from trainforged.storage.jobs.writing import Rows, write
from trainforged.storage.opening import connected, first_flaw

log = logging.getLogger(__name__)

LEAST_COMMITS = 4 << 20  # bytes since the copy, below which it is not worth another one
HEAD = struct.Struct("<II")  # length and checksum of what follows


class Commit(msgspec.Struct, frozen=True):
    """As `JobStore.commit` was given it; `first` is the id of its first event."""

    changes: Sequence[m.Change]
    submissions: Mapping[str, Submission]
    first: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Commit)


class SecondCopy:
    """In `folder`, of `database`. `note` belongs to whoever commits; the rest to one thread at a time."""

    def __init__(self, folder: Path, database: Database) -> None:
        self._folder = folder
        self._database = database
        self._whole: int | None = None  # the number of the copy with all commits since
        self._number = 0  # of what is written now
        self._commits: int | None = None  # descriptor
        self._written = 0  # bytes of commits since the last renewal began
        self._size = 0  # of the copy
        self._changing = threading.Lock()

    def begin(self) -> None:
        """Forget what a former daemon left."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        with self._changing:
            self._stop()
        self.begin()

    def note(self, commit: Commit) -> None:
        """Called in the transaction's turn, once it is on the disk. Without room the copy waits for the next
        renewal: what is asked of the daemon does not."""
        with self._changing:
            if self._commits is None:
                return
            body = _encoder.encode(commit)
            frame = HEAD.pack(len(body), zlib.crc32(body)) + body
            self._written += len(frame)
            try:
                complete = os.write(self._commits, frame) == len(frame)
            except OSError as error:
                log.warning("the second copy of %s is not kept up: %s", self._database.path, error)
                complete = False
            if not complete:
                self._stop()

    def renew(self) -> None:
        """Copy the database, if too much has come since the last copy was made. Raises `StorageError`: the
        copy that there was, and what came since, stays."""
        if self._whole is not None and self._written <= max(LEAST_COMMITS, self._size):
            return
        with translated(self._folder):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            with self._database.still() as source, self._changing:
                self._open_next()
            number, draft = self._number, self._folder / "copy.new"
            with contextlib.closing(source):
                self._copy(source, draft)
            draft.rename(self._place("copy", number))
            self._size = self._place("copy", number).stat().st_size
            with self._changing:
                if self._commits is not None:
                    self._whole = number
            self._remove_older(number)

    def usage(self) -> int:
        """Bytes on disk."""
        with contextlib.suppress(OSError):
            return sum(file.stat().st_size for file in self._folder.iterdir())
        return 0

    def rebuild(self, draft: Path) -> None:
        """Make the database once more at `draft`, from here alone. Nobody commits meanwhile. Raises
        `StorageDamaged` where there is no whole copy."""
        if self._whole is None:
            raise StorageDamaged(f"the second copy of {self._database.path} is not whole")
        with translated(self._folder):
            shutil.copyfile(self._place("copy", self._whole), draft)
            draft.chmod(0o600)
            with connected(draft) as connection:
                connection.execute("BEGIN")
                for number in range(self._whole, self._number + 1):
                    for commit in _commits(self._place("commits", number)):
                        write(connection, Rows(commit.changes, commit.submissions), commit.first)
                connection.execute("COMMIT")

    # ---- files

    def _place(self, kind: str, number: int) -> Path:
        return self._folder / (f"copy-{number}.db" if kind == "copy" else f"commits-{number}")

    def _open_next(self) -> None:
        if self._commits is not None:
            os.close(self._commits)
        self._number += 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._commits = os.open(self._place("commits", self._number), flags, 0o600)
        self._written = 0

    def _stop(self) -> None:
        """What was kept is not whole any more."""
        self._whole = None
        if self._commits is not None:
            os.close(self._commits)
            self._commits = None

    def _copy(self, source: sqlite3.Connection, draft: Path) -> None:
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        with connected(draft) as target:
            target.execute("PRAGMA synchronous = OFF")
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")
            flaw = first_flaw(target)
        if flaw is not None:
            self._database.suspected = True
            raise StorageDamaged(f"{self._database.path} is damaged: {flaw}")

    def _remove_older(self, number: int) -> None:
        for file in self._folder.iterdir():
            kept = file.stem.rpartition("-")[2]
            if kept.isdigit() and int(kept) < number:
                file.unlink()


def _commits(path: Path) -> Iterator[Commit]:
    """Raises `StorageDamaged` where what was written is not there."""
    with path.open("rb") as file:
        while head := file.read(HEAD.size):
            try:
                size, checksum = HEAD.unpack(head)
                body = file.read(size)
                if len(body) < size or zlib.crc32(body) != checksum:
                    raise ValueError("checksum")
                commit = _decoder.decode(body)
            except (struct.error, ValueError) as error:  # msgspec's are ValueErrors too
                raise StorageDamaged(f"{path} is damaged: {error}") from error
            yield commit
