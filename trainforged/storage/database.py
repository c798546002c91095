"""One SQLite file in WAL mode: a writer, readers beside it, and whole transactions only.

`opening` makes, checks and migrates the file. Threads may share a `Database`: writers take turns, a
reader has a connection of its own and sees one moment. After a transaction that failed the file is
as before, and the next one may succeed. Raises the errors of `storage.errors`.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from trainforged.storage.errors import StorageDamaged, is_damage, translated
from trainforged.storage.opening import Schema, connected, family, first_flaw, prepare, publish, set_aside

BUSY_SECONDS = 5.0  # how long another program (a person's sqlite3, say) is waited for
IDLE_READERS = 4  # connections kept for the next reader
LARGEST_GAP = 0.25  # share of free pages that is kept for new rows
LOG_PAGES = 4000  # in the WAL, after which a writer brings it into the file itself: one commit in hundreds
LARGEST_LOG = 32 * 2**20  # bytes that an emptied WAL file keeps

FileId = tuple[int, int]  # device, inode
Check = Callable[[sqlite3.Connection], str | None]


class Database:
    """The file at `path`, open between `open` and `close`.

    `durable`: a transaction is on the disk when `write` returns. Without it a power cut may take
    the last few away, but never a part of one.
    """

    def __init__(self, path: Path, schema: Schema, *, durable: bool) -> None:
        self.path = path.absolute()
        self._schema = schema
        self._durable = durable
        self._writer: sqlite3.Connection | None = None
        self._readers: list[sqlite3.Connection] = []
        self._turn = threading.Lock()  # of the writer
        self._pool = threading.Lock()  # held for moments, unlike `_turn`
        self._is_open = False
        self._opened = 0  # how often: readers of a file that was replaced since are not kept
        self._ours: dict[Path, FileId] = {}
        self.commits = 0  # and replacements: what was read is as it was while this is the same
        self.suspected = False  # an error spoke of damage; whoever looks after it takes the word away

    def open(self) -> None:
        """Make the file if there is none, bring it up to date. Raises `StorageDamaged`, `StorageTooNew`."""
        prepare(self.path, self._schema)
        with translated(self.path), self._turn, self._pool:
            self._begin()

    def _begin(self) -> None:
        self._is_open = True
        self._opened += 1
        self.commits += 1
        self._writer = self._connect_writer()

    def close(self) -> None:
        """Wait for the writer, then close. Closing twice does no harm."""
        with self._turn, self._pool:
            self._end()

    def _end(self) -> None:
        self._is_open = False
        connections, self._readers = self._readers, []
        if self._writer is not None:
            connections.append(self._writer)
            self._writer = None
        for connection in connections:
            connection.close()

    def replace(self, draft: Path) -> Path:
        """Go on with the finished database `draft` in the place of this one, whose files are moved aside;
        returns where they lie. Who reads and writes meanwhile waits."""
        with translated(self.path), self._turn, self._pool:
            self._end()
            try:
                aside = set_aside(self.path)
                publish(draft, self.path)
            finally:
                self._begin()
            self.suspected = False
        return aside

    @contextlib.contextmanager
    def still(self) -> Iterator[sqlite3.Connection]:
        """A reader of its own beside which nobody writes until the block ends; then it may read on. It is
        the caller's to close."""
        with self._turn, translated(self.path):
            connection = self._connect()
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            yield connection

    @contextlib.contextmanager
    def first_hand(self) -> Iterator[sqlite3.Connection]:
        """Sees what the writer sees, also where the file was removed or replaced. Nothing may be written."""
        with self._writing() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                self._roll_back(connection)

    @contextlib.contextmanager
    def write(self, then: Callable[[], None] = lambda: None) -> Iterator[sqlite3.Connection]:
        """One transaction, committed at the end of the block; an exception in it undoes all of it. `then` is
        called once it is committed, before the next one begins."""
        with self._writing() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
                self.commits += 1
            except BaseException:
                self._roll_back(connection)
                raise
            then()

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Sees what was committed before the block began. Nothing may be written in it."""
        with self._reader() as connection:
            connection.execute("BEGIN")
            yield connection
            connection.execute("ROLLBACK")

    def checkpoint(self) -> None:
        """Bring the WAL into the file without holding up writers, who then need not do it."""
        with self._reader() as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def give_back(self, pages: int = 1000) -> None:
        """Shorten the file by up to so many pages, where much of it holds nothing."""
        with self._writing() as connection:
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            (total,) = connection.execute("PRAGMA page_count").fetchone()
            if free > total * LARGEST_GAP:
                connection.executescript(f"PRAGMA incremental_vacuum({pages})")  # execute frees one page only

    def used(self) -> int:
        """Bytes of the file that hold something."""
        with self._reader() as connection:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            (size,) = connection.execute("PRAGMA page_size").fetchone()
            return int((pages - free) * size)

    def size(self) -> int:
        """Bytes on disk of the file and what SQLite keeps beside it."""
        return sum(_size(file) for file in family(self.path))

    # ---- what others do to the file

    def moved(self) -> str | None:
        """What was done to the names of its files since they were opened, in words: SQLite would go on in
        files that nobody finds again. None if nothing was."""
        for file, known in tuple(self._ours.items()):
            found = _identity(file)
            if found != known and self._ours.get(file) == known:
                return f"{file.name} was {'removed' if found is None else 'replaced by another file'}"
        return None

    def flaw(self, also: Check = lambda connection: None) -> str | None:
        """The first that is wrong with the contents, `also` last; None of a sound file. Reads all of it, past
        what is remembered of it."""
        with translated(self.path), connected(self.path) as connection:
            try:
                if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                    return "another file was written over it"
                return first_flaw(connection) or also(connection)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                return str(error)

    # ---- connections

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Errors in our words; one that speaks of damage is remembered."""
        try:
            with translated(self.path):
                yield
        except StorageDamaged:
            self.suspected = True
            raise

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._turn, self._watched():
            if self._writer is None:
                self._writer = self._connect_writer()
            yield self._writer

    @contextlib.contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        with self._watched():
            connection, opened = self._take()
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            self._keep(connection, opened)

    def _take(self) -> tuple[sqlite3.Connection, int]:
        with self._pool:
            return self._readers.pop() if self._readers else self._connect(), self._opened

    def _keep(self, reader: sqlite3.Connection, opened: int) -> None:
        with self._pool:
            if self._is_open and opened == self._opened and len(self._readers) < IDLE_READERS:
                self._readers.append(reader)
                return
        reader.close()

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        """A connection that cannot even roll back is dropped, which does it too."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._writer = None
            self._ours.clear()  # the last connection takes the log away
            connection.close()

    def _connect_writer(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # makes the log, if there is none
        self._ours = {file: known for file in family(self.path) if (known := _identity(file)) is not None}
        return connection

    def _connect(self) -> sqlite3.Connection:
        if not self._is_open:
            raise sqlite3.ProgrammingError(f"{self.path} is not open")
        connection = sqlite3.connect(
            self.path.as_uri() + "?mode=rw",  # a file that vanished is not to be made anew
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit = {LARGEST_LOG}")
        except BaseException:
            connection.close()
            raise
        return connection


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # the log comes and goes
        return 0


def _identity(file: Path) -> FileId | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
