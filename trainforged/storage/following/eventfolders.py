"""Where a job's TensorBoard event files lie, found with bounded work and without leaving its folder.

No symbolic link is followed, hidden folders are left out, shallow folders come first, and of a folder with
endless entries only so many are looked at.
"""

from __future__ import annotations

import os
import re
import stat
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec

DEEPEST = 8  # folders below each other
MOST_ENTRIES = 20_000  # looked at in one search
MOST_FILES = 200  # found in one search

_NAME = "events.out.tfevents."
_PID = re.compile(r"\.(\d{1,9})\.\d{1,9}(?:\.v2)?$", re.ASCII)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LEFT_OUT = frozenset({"__pycache__", "node_modules", "site-packages"})

Identity = tuple[int, int]  # device, inode


class EventFile(msgspec.Struct, frozen=True):
    """A file as found: `parts` lead to it from `root`."""

    root: Path
    parts: tuple[str, ...]
    size: int

    @property
    def run(self) -> str:
        """The folder that it lies in, as TensorBoard names a run; empty for `root` itself."""
        return "/".join(self.parts[:-1])

    @property
    def pid(self) -> int | None:
        """Of its writer, as most writers put it into the name."""
        match = _PID.search(self.parts[-1])
        return int(match[1]) if match else None


def search(
    roots: Sequence[Path], avoid: frozenset[Identity] = frozenset(), entries: int = MOST_ENTRIES
) -> list[EventFile]:
    """Event files below the roots, which are no links; folders that are among `avoid` are not entered."""
    found: list[EventFile] = []
    for root in roots:
        try:
            descriptor = os.open(root, _FOLDER)
        except OSError:  # not there (yet)
            continue
        try:
            entries -= _search_one(root, descriptor, avoid, entries, found)
        finally:
            os.close(descriptor)
    return found


def open_file(file: EventFile) -> int:
    """A descriptor of a regular file, reached without any symbolic link. Raises `OSError`."""
    descriptor = os.open(file.root, _FOLDER)
    try:
        parent = _enter(descriptor, file.parts[:-1])
        try:
            opened = os.open(file.parts[-1], _FILE, dir_fd=parent)
        finally:
            os.close(parent)
    finally:
        os.close(descriptor)
    if stat.S_ISREG(os.fstat(opened).st_mode):
        return opened
    os.close(opened)
    raise OSError(f"{'/'.join(file.parts)}: no regular file")


def _search_one(
    root: Path, descriptor: int, avoid: frozenset[Identity], entries: int, found: list[EventFile]
) -> int:
    """Append what is found; how many entries were looked at."""
    waiting: deque[tuple[str, ...]] = deque([()])
    seen = 0
    while waiting and seen < entries and len(found) < MOST_FILES:
        parts = waiting.popleft()
        try:
            folder = _enter(descriptor, parts)
        except OSError:
            continue
        try:
            status = os.fstat(folder)
            if (status.st_dev, status.st_ino) in avoid:
                continue
            with os.scandir(folder) as listing:
                for entry in listing:
                    seen += 1
                    if seen > entries or len(found) >= MOST_FILES:
                        break
                    _look(root, parts, entry, waiting, found)
        except OSError:
            continue
        finally:
            os.close(folder)
    return seen


def _look(
    root: Path,
    parts: tuple[str, ...],
    entry: os.DirEntry[str],
    waiting: deque[tuple[str, ...]],
    found: list[EventFile],
) -> None:
    try:
        if entry.name.startswith(_NAME):
            if entry.is_file(follow_symlinks=False):
                size = entry.stat(follow_symlinks=False).st_size
                found.append(EventFile(root, (*parts, entry.name), size))
        elif (
            len(parts) < DEEPEST
            and not entry.name.startswith(".")
            and entry.name not in _LEFT_OUT
            and entry.is_dir(follow_symlinks=False)
        ):
            waiting.append((*parts, entry.name))
    except OSError:  # gone again
        return


def _enter(descriptor: int, parts: Sequence[str]) -> int:
    """The folder that `parts` lead to, no link among them. The caller closes it."""
    at = os.dup(descriptor)
    for part in parts:
        try:
            following = os.open(part, _FOLDER, dir_fd=at)
        finally:
            os.close(at)
        at = following
    return at
