"""Whether an open database is still what was written: cheap looks, and now and then at all of it.

SQLite reads what it kept in memory, and goes on in a file that was removed: without a look nobody would know
before the next start. A look costs three `stat`s. The contents are read when something points at damage, when
the file was written (perhaps not by us alone), and once an hour; for a small share of the time at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from trainforged.storage.database import Check, Database

SHORTEST = 10.0  # seconds between two readings of a file that changes
LONGEST = 3600.0  # and of one that does not
SHARE = 0.0005  # of the time, spent on reading
SUSPICIOUS_SHARE = 0.01  # while something points at damage


class Looks:
    """One caller at a time. `also` is asked when the contents are read."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], float] = time.monotonic,
        also: Check = lambda connection: None,
    ) -> None:
        self._database = database
        self._also = also
        self._clock = clock
        self._size = 0
        self._changed = 0  # when the file was changed, at the last reading
        self._read = clock()
        self._cost = 0.0

    def look(self) -> str | None:
        """What is wrong, in words. Raises `StorageError` where that cannot be found out."""
        if what := self._database.moved():
            return what
        found = self._database.path.stat()
        if found.st_size == 0:
            return "it is empty"
        shorter, self._size = found.st_size < self._size, found.st_size
        self._database.suspected |= shorter
        if self._is_due(found.st_mtime_ns):
            self._database.suspected = False
            return self._flaw(found.st_mtime_ns)
        return None

    def _is_due(self, changed: int) -> bool:
        since = self._clock() - self._read
        if self._database.suspected:
            return since >= self._cost / SUSPICIOUS_SHARE
        return since >= max(LONGEST if changed == self._changed else SHORTEST, self._cost / SHARE)

    def _flaw(self, changed: int) -> str | None:
        began = self._clock()
        try:
            return self._database.flaw(self._also)
        finally:
            self._read, self._changed = self._clock(), changed
            self._cost = self._read - began
