"""Progress of jobs that report none, from the end of their output.

Only the newest lines are looked at, whatever comes: the cost of a look does not grow with what a job prints.
What is found is shown as the progress of the job and is not more: no series, no sign of life, no proof that a
retry got further, since text proves nothing.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Sequence

import msgspec

from trainforged.storage.following.outputlines import latest
from trainforged.storage.following.records import LiveAttempt, RecordReader
from trainforged.storage.metrics.ingestion import Place, Reading
from trainforged.storage.recordlines import Report

WINDOW = 16 * 1024  # bytes at the end that are looked at
EVERY = 2.0  # seconds between two looks
SOURCE = -(2**62)  # the number of the output among the files of an attempt

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class OutputFollower:
    """Any one thread at a time may call its methods; they block."""

    def __init__(
        self,
        reader: RecordReader,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._now = now
        self._next = 0.0
        self._seen: dict[tuple[int, int], tuple[int, int]] = {}  # inode and size at the last look
        self._told: dict[tuple[int, int], Report] = {}  # but for its time

    def gather(self, attempts: Sequence[LiveAttempt]) -> None:
        """Look at those that report nothing, where it is time. Raises as `RecordReader.gather`."""
        if self._clock() < self._next:
            return
        self._next = self._clock() + EVERY
        for live in attempts:
            self._look(live)
        live_now = {(live.job, live.attempt) for live in attempts}
        self._seen = {key: seen for key, seen in self._seen.items() if key in live_now}
        self._told = {key: told for key, told in self._told.items() if key in live_now}

    def drain(self, live: LiveAttempt) -> None:
        """The last look at an attempt that has ended."""
        self._look(live)
        self._seen.pop((live.job, live.attempt), None)
        self._told.pop((live.job, live.attempt), None)

    def _look(self, live: LiveAttempt) -> None:
        known = self._reader.position(live.job)
        if known is not None and known.source != "output":
            return
        # of several ranks the first one's own output; one rank's is the output itself
        data, size = self._end(live, "rank-0.log") or self._end(live, "output.log") or (b"", 0)
        report = latest(data, 0.0) if data else None
        if report is None or self._told.get((live.job, live.attempt)) == report:
            return
        self._told[live.job, live.attempt] = report
        report = msgspec.structs.replace(report, time=self._now())
        place = Place(size)
        reading = Reading(job=live.job, attempt=live.attempt, rank=0, place=place, source=SOURCE)
        self._reader.take_in(reading, "output", (report,))

    def _end(self, live: LiveAttempt, name: str) -> tuple[bytes, int] | None:
        """What is new at the end of the file, and its size; None where there is no such file."""
        try:
            descriptor = os.open(live.dir / name, _FLAGS)
        except OSError:
            return None
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return None
            key, size = (live.job, live.attempt), found.st_size
            inode, before = self._seen.get(key, (0, 0))
            self._seen[key] = found.st_ino, size
            if (found.st_ino, size) == (inode, before):
                return b"", size
            return _from_a_line(os.pread(descriptor, WINDOW, max(0, size - WINDOW)), size), size
        except OSError:
            return None
        finally:
            os.close(descriptor)


def _from_a_line(data: bytes, size: int) -> bytes:
    """The end of a file of `size` bytes from the first line on that is there whole."""
    if len(data) >= size:
        return data
    breaks = [at for at in (data.find(b"\n"), data.find(b"\r")) if at >= 0]
    return data[min(breaks) :] if breaks else b""
