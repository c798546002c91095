"""Lines of an attempt's output that contain a text. Blocks: call it in a thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from trainforge.api.page import FoundLine
from trainforged.storage.logs import Log
from trainforged.web.insight import LineFilter

LONGEST = 2000  # characters of a line that are given
LONGEST_LINE = 2**20  # bytes in which a line is searched


def search(folder: Path, attempt: int, which: LineFilter, most: int) -> list[FoundLine]:
    """The first `most` of them. `rank` is known where one rank's output is searched."""
    wanted = which.text.casefold()
    name = "output" if which.rank is None else f"rank-{which.rank}"
    found: list[FoundLine] = []
    for number, line in enumerate(_lines(folder, name), 1):
        text = line.decode(errors="replace")
        if wanted in text.casefold():
            found.append(FoundLine(attempt=attempt, number=number, rank=which.rank, text=text[:LONGEST]))
            if len(found) == most:
                break
    return found


def _lines(folder: Path, name: str) -> Iterator[bytes]:
    """A line that is too long is given in parts of a bounded length: memory is bounded."""
    log, rest = Log(folder, name), b""
    try:
        while chunk := log.read():
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole
            if len(rest) > LONGEST_LINE:
                yield rest
                rest = b""
        if rest:
            yield rest
    finally:
        log.close()
