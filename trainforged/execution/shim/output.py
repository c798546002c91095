"""The output of an attempt: read from its pipes, kept in logs, line by line where ranks share one.

The only rank of an attempt, or a command, writes to `output` alone, as it is. Of several ranks each
has a log of its own, and its lines stand in `output` after its name.
"""

from __future__ import annotations

import os
import time

from trainforged.execution.shim.log import Log

CHUNK = 1 << 16
LONGEST_LINE = 1 << 14  # of a rank, before it is passed on in pieces
MOST_REFUSED = 4
HOLD = 0.1  # seconds that the beginning of a line waits for its end


class Source:
    """A pipe that output comes from, with the log that takes it as it is."""

    held_since: float | None = None

    def __init__(self, fd: int, log: Log | None) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self._log = log

    def pump(self) -> bool:
        """Take what is there, up to a chunk. False if there was nothing."""
        try:
            data = os.read(self.fd, CHUNK)
        except BlockingIOError:
            return False
        if data:
            self.take(data)
        return bool(data)

    @property
    def refused(self) -> bytes:
        return self._log.refused if self._log is not None else b""

    def take(self, data: bytes) -> None:
        if self._log is not None:
            self._log.write(data)

    def flush(self) -> None:
        """Pass on what is held back."""


class Lines(Source):
    """A source that shares the merged log. Half a line is held for a moment: others could break it."""

    def __init__(self, fd: int, log: Log | None, merged: Merged, name: bytes) -> None:
        super().__init__(fd, log)
        self.name = name
        self._merged = merged
        self._held = b""

    def take(self, data: bytes) -> None:
        super().take(data)
        data = self._held + data
        end = max(data.rfind(b"\n"), data.rfind(b"\r", 0, len(data) - 1)) + 1  # a last \r may precede a \n
        if len(data) - end > LONGEST_LINE:
            end = len(data)
        self._pass_on(data[:end], data[end:])

    def flush(self) -> None:
        self._pass_on(self._held, b"")

    def _pass_on(self, text: bytes, rest: bytes) -> None:
        self._held = rest
        self.held_since = time.monotonic() if rest else None
        if text:
            self._merged.write(self, text)


class Merged:
    """The lines of several sources in one log, each after its source's name."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._owner: Lines | None = None  # whose line the log ends in, if it ends within one
        self._returned = False  # that line ends in a carriage return: what follows covers it

    def write(self, source: Lines, text: bytes) -> None:
        text = text.replace(b"\r\n", b"\n")
        name = source.name
        body = text[:-1].replace(b"\n", b"\n" + name).replace(b"\r", b"\r" + name) + text[-1:]
        if self._owner is not source:
            body = (b"\n" if self._owner else b"") + name + body
        elif self._returned:
            body = name + body
        self._log.write(body)
        self._owner = None if text.endswith(b"\n") else source
        self._returned = text.endswith(b"\r")


class Output:
    """All output of an attempt with `ranks` ranks (0: a command). Makes the pipes it reads.

    `descriptor` is for the main process's stdout and stderr. Of several ranks each opens a FIFO,
    `rank-<r>.pipe`, for its own: their launcher would write to files without a cap.
    """

    def __init__(self, folder: str, ranks: int, limit: int) -> None:
        self._folder = folder
        self._ranks = ranks
        reader, self.descriptor = os.pipe()
        self.sources: list[Source] = []
        if ranks > 1:
            merged = Merged(Log(f"{folder}/output", limit // 2))
            self.sources.append(Lines(reader, None, merged, b""))
            self.sources += [self._of_rank(rank, limit // (2 * ranks), merged) for rank in range(ranks)]
        else:
            alias = f"{folder}/rank-0" if ranks == 1 else None
            self.sources.append(Source(reader, Log(f"{folder}/output", limit, alias)))

    @property
    def flush_at(self) -> float | None:
        """When the first half of a line has waited long enough."""
        since = [source.held_since for source in self.sources if source.held_since is not None]
        return min(since) + HOLD if since else None

    def flush(self, now: float) -> None:
        for source in self.sources:
            if source.held_since is not None and now >= source.held_since + HOLD:
                source.flush()

    def refused(self) -> dict[str, str]:
        """The last words, by rank (0: of a command), that the disk refused; of a few ranks at most."""
        sources = self.sources[1:] if self._ranks > 1 else self.sources
        words = {str(rank): source.refused for rank, source in enumerate(sources) if source.refused}
        return {rank: text.decode(errors="replace") for rank, text in [*words.items()][:MOST_REFUSED]}

    def finish(self) -> None:
        """When no writer is left: take the rest, and remove the FIFOs."""
        for source in self.sources:
            while source.pump():
                pass
            source.flush()
        if self._ranks > 1:
            for rank in range(self._ranks):
                os.unlink(f"{self._folder}/rank-{rank}.pipe")

    def _of_rank(self, rank: int, limit: int, merged: Merged) -> Lines:
        stem = f"{self._folder}/rank-{rank}"
        os.mkfifo(f"{stem}.pipe", 0o600)
        # For writing too: with a writer of its own the FIFO never reads as closed between two others.
        fd = os.open(f"{stem}.pipe", os.O_RDWR | os.O_NONBLOCK)
        return Lines(fd, Log(stem, limit), merged, f"[rank{rank}] ".encode())
