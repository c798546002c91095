"""Mistakes in a job file: where they are, how they are worded, and the error that carries all of them.

Every mistake is collected before any is reported. What a user wrote is shown on one line, cut to a
sensible length and without control characters: it goes to terminals and into JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from trainforge.api import ErrorDetail

_MOST_REPORTED = 500  # a file may hold a hundred thousand mistakes; nobody reads that many
_SHOWN = 60
_SHOWN_PATH = 200


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where something was written: a file, or the flag it came from, and the line, as far as known."""

    file: str | None = None
    line: int | None = None


NOWHERE = Place()


class Mistake(Place, frozen=True, kw_only=True):
    """One thing wrong at the key path `path`; an empty path is the file as a whole."""

    path: str
    message: str


class SpecError(Exception):
    """A job description is refused; `details` holds every mistake in it, in the order of the files."""

    def __init__(self, details: tuple[ErrorDetail, ...]) -> None:
        super().__init__("\n".join(format_details(details)))
        self.details = details


def refusal(message: str, at: Place = NOWHERE) -> SpecError:
    """The error of a description that cannot even be read, to be raised."""
    return SpecError(_details([Mistake(path="", message=message, file=at.file, line=at.line)]))


class Mistakes:
    """What is wrong so far."""

    def __init__(self, found: Iterable[Mistake] = ()) -> None:
        self._found = list(found)

    def __len__(self) -> int:
        return len(self._found)

    @property
    def found(self) -> tuple[Mistake, ...]:
        return tuple(self._found)

    def add(self, path: str, message: str, at: Place = NOWHERE) -> None:
        self._found.append(Mistake(path=path, message=message, file=at.file, line=at.line))

    def extend(self, mistakes: Iterable[Mistake]) -> None:
        self._found.extend(mistakes)

    def raise_any(self, files: Sequence[str] = ()) -> None:
        """Raise SpecError if there is any mistake. `files` gives the order in which files are reported."""
        if self._found:
            raise SpecError(_details(_in_order(self._found, files)))


def expected(what: str, found: str, hint: str = "") -> str:
    """The usual wording of a mistake. `found` is shown as it is: pass text of the user through `show`."""
    return f"expected {what}, found {found}" + (f"; {hint}" if hint else "")


def show(text: str) -> str:
    """Text that a user wrote, recognisable as such where it is empty or has blanks at its ends."""
    if not text or text != text.strip() or "," in text:
        return f'"{printable(text)}"'
    return printable(text)


def printable(text: str, most: int = _SHOWN) -> str:
    """`text` on one line and at most `most` characters long, with escapes for what cannot be printed."""
    if len(text) > most:
        text = text[: most - 1] + "…"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def format_details(details: Iterable[ErrorDetail]) -> list[str]:
    """One line for each: `trainforge.yaml:9: resources.gpus: unknown key; did you mean gpu?`"""
    return [_format(detail) for detail in details]


def _format(detail: ErrorDetail) -> str:
    where = detail.file or ""
    if where and detail.line is not None:
        where += f":{detail.line}"
    return ": ".join(part for part in (where, detail.path, detail.message) if part)


def _in_order(mistakes: Iterable[Mistake], files: Sequence[str]) -> list[Mistake]:
    rank = {file: place for place, file in reversed(list(enumerate(files)))}
    last = len(rank)

    def key(mistake: Mistake) -> tuple[int, bool, int]:
        order = rank.get(mistake.file, last) if mistake.file else -1
        return order, mistake.line is None, mistake.line or 0

    return sorted(mistakes, key=key)


def _details(mistakes: Sequence[Mistake]) -> tuple[ErrorDetail, ...]:
    details = [_detail(mistake) for mistake in mistakes[:_MOST_REPORTED]]
    left = len(mistakes) - len(details)
    if left:
        details.append(_detail(Mistake(path="", message=f"… and {left} more mistakes")))
    return tuple(details)


def _detail(mistake: Mistake) -> ErrorDetail:
    from trainforge.api import ErrorDetail  # a good job file needs none of the API's types

    return ErrorDetail(
        path=printable(mistake.path, _SHOWN_PATH),
        message=mistake.message,
        file=None if mistake.file is None else printable(mistake.file, _SHOWN_PATH),
        line=mistake.line,
    )
