"""Is a list of files safe to lay out? Pure: no file is touched.

A path stays below the folder it is laid out in, and nothing is written through a symbolic link:
where one path lies below another, the other must be a folder, so it is not in the list. Where a
symbolic link points to is not restricted: a job may read whatever its user may.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from trainforge.api import FileEntry
from trainforge.jobfile.mistakes import printable
from trainforged.execution.errors import BadManifest

_SHA256 = re.compile(r"[0-9a-f]{64}")
_LONGEST_PATH, _LONGEST_NAME = 4000, 255  # bytes; the system's 4096 hold the job's folder too


def check_manifest(entries: Sequence[FileEntry], links: Iterable[str] = ()) -> None:
    """Raises BadManifest. `links` are further paths that will be symbolic links."""
    for entry in entries:
        _check_content(entry)
    paths = [entry.path for entry in entries]
    for path in paths:
        _check_path(path)
    _check_places([*paths, *links])


def is_hash(text: str) -> bool:
    """64 lower-case hex digits?"""
    return _SHA256.fullmatch(text) is not None


def _check_content(entry: FileEntry) -> None:
    if (entry.sha256 is None) == (entry.target is None):
        raise _bad(entry.path, "expected one of sha256 and target")
    if entry.sha256 is not None and not is_hash(entry.sha256):
        raise _bad(entry.path, f"expected 64 hex digits as sha256, found {printable(entry.sha256)}")
    if entry.target is not None and not _is_name(entry.target, _LONGEST_PATH):
        raise _bad(entry.path, "a symbolic link needs a target of at most 4000 bytes")
    if not 0 <= entry.mode <= 0o777:
        raise _bad(entry.path, f"expected a mode of 0 to 0777 (octal), found {entry.mode:o}")


def _check_path(path: str) -> None:
    if not _is_name(path, _LONGEST_PATH):
        raise _bad(path, "expected a path of 1 to 4000 bytes")
    for part in path.split("/"):
        if part in ("", ".", "..") or not _is_name(part, _LONGEST_NAME):
            raise _bad(path, "expected a relative path without empty parts, `.` and `..`")


def _is_name(text: str, longest: int) -> bool:
    try:
        return 0 < len(text.encode()) <= longest and "\0" not in text
    except UnicodeEncodeError:
        return False


def _check_places(paths: Sequence[str]) -> None:
    """Each path once, and none below another."""
    places: set[str] = set()
    for path in paths:
        if path in places:
            raise _bad(path, "listed twice")
        places.add(path)
    folders: set[str] = set()
    for path in paths:
        end = path.rfind("/")
        while end > 0 and (folder := path[:end]) not in folders:
            if folder in places:
                raise _bad(path, f"lies below {printable(folder)}, which is no folder")
            folders.add(folder)
            end = path.rfind("/", 0, end)


def _bad(path: str, what: str) -> BadManifest:
    return BadManifest(f"files: {printable(path)}: {what}")
