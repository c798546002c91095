"""What goes to standard output and error: text for people or a pipe, one JSON document, or raw bytes.

`guarded` stands between the commands and both streams. What comes from jobs never steers the terminal:
control characters in text are made visible. A stream that is closed counts as /dev/null; one that cannot
be written to is one error, `OutputLost`, or of standard error none. Only `styled`, `print_json` and
`write_bytes` go past it.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

from tfctl.render.words import visible


class OutputLost(Exception):
    """Standard output cannot be written to; the message says why. A closed pipe is no such case."""


class _Written(io.TextIOBase):
    """A stream as it is, but for its errors."""

    def __init__(self, stream: TextIO, quiet: bool) -> None:
        self._stream = stream
        self._quiet = quiet

    def write(self, text: str) -> int:
        with self._told():
            self._stream.write(text)
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        with self._told():
            self._stream.flush()
            self._stream.buffer.write(data)
            self._stream.buffer.flush()

    def flush(self) -> None:
        with self._told():
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def buffer(self) -> Any:
        return self._stream.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            discard(self._stream)
            if self._quiet:
                return
            if isinstance(error, BrokenPipeError):
                raise
            raise OutputLost(f"standard output: {error.strerror or error}") from error


class Shown(_Written):
    """The same, with control characters made visible. `styled` lets a command's own colours through."""

    def __init__(self, stream: TextIO, quiet: bool = False) -> None:
        super().__init__(stream, quiet)
        self.styled = _Written(stream, quiet)

    def write(self, text: str) -> int:
        return self.styled.write(visible(text, keep="\n\t"))


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Both streams, guarded, while a command runs."""
    _open_closed()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast(TextIO, Shown(sys.stdout)), cast(TextIO, Shown(sys.stderr, quiet=True))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _open_closed() -> None:
    """A stream that the caller closed would be the first file or connection that is opened."""
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest number that is free: this one
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def discard(stream: TextIO) -> None:
    """What is still to come of a standard stream goes nowhere: Python writes it out once more as it ends."""
    with contextlib.suppress(OSError, ValueError):
        number = stream.fileno()
        if number in (1, 2):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)


@contextlib.contextmanager
def of_what_is_done() -> Iterator[None]:
    """Around words on a change that was made: that they cannot be said makes nobody think it was not."""
    try:
        yield
        sys.stdout.flush()
    except OutputLost as error:
        print(f"tfctl: {error}", file=sys.stderr)
    except BrokenPipeError:
        pass


def to_terminal() -> bool:
    """Whether a person reads it: then it may be coloured and sized to the terminal."""
    return sys.stdout.isatty()


def coloured() -> bool:
    return to_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled() -> TextIO:
    """Standard output for text with escape codes of ours. What it tells of jobs goes through `visible`."""
    return cast(TextIO, getattr(sys.stdout, "styled", sys.stdout))


def lenient() -> None:
    """From now on a terminal that has no such character shows `?`."""
    stream: object = sys.__stdout__
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")


def print_json(value: object) -> None:
    """One JSON document on one line."""
    import msgspec

    styled().write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def write_bytes(data: bytes) -> None:
    """A job's output, as it is."""
    out = styled()
    if isinstance(out, _Written):
        out.write_bytes(data)
    else:
        out.buffer.write(data)
        out.buffer.flush()
