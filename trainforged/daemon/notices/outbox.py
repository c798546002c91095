"""Letters that have not arrived yet, a file each, and how far the history of events has been told.

Functions here block: call them off the loop. A letter names addresses that are secrets: the folder is closed
to others.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from trainforged.daemon.notices.letters import Letter
from trainforged.execution import durable

log = logging.getLogger(__name__)

MOST_LETTERS = 1000
MOST_FOR_ONE = 250  # of them for one server or program: who takes none leaves room for the others

_letter = msgspec.json.Decoder(Letter)


class Outbox:
    """The folder `<state folder>/outbox`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, last_event: int) -> tuple[list[Letter], int]:
        """The letters that are left, and the last event told of: `last_event` in a new outbox. A file that
        is damaged is removed."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        letters = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                letters.append(_letter.decode(path.read_bytes()))
            except (OSError, msgspec.DecodeError) as error:
                log.error("%s is no letter: %s", path, error)
                path.unlink(missing_ok=True)
        try:
            place = int((self._folder / "place").read_text())
        except (OSError, ValueError):
            place = last_event
            self.go_on(place)
        return letters, min(place, last_event)

    def put(self, letters: Sequence[Letter]) -> None:
        """Durably; in the place of one with the same id. Raises `OSError`."""
        for letter in letters:
            durable.write(str(self._path(letter)), msgspec.json.encode(letter))

    def remove(self, letter: Letter) -> None:
        self._path(letter).unlink(missing_ok=True)

    def go_on(self, place: int) -> None:
        """Events up to `place` are told of, or letters of them lie here. Raises `OSError`."""
        draft = self._folder / "place.new"
        draft.write_text(str(place))
        os.replace(draft, self._folder / "place")

    def waited(self) -> set[int]:
        """Jobs of whose long wait was told."""
        with contextlib.suppress(OSError, ValueError, msgspec.DecodeError):
            return set(msgspec.json.decode((self._folder / "waited").read_bytes(), type=list[int]))
        return set()

    def keep_waited(self, jobs: set[int]) -> None:
        draft = self._folder / "waited.new"
        draft.write_bytes(msgspec.json.encode(sorted(jobs)))
        os.replace(draft, self._folder / "waited")

    def _path(self, letter: Letter) -> Path:
        return self._folder / f"{letter.id}.json"
