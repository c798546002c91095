"""A job's own copy of its project: laid out beside, put on the disk, renamed into place.

What is in place is whole. It belongs to the job from then on, and is never laid out again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

from trainforge.api import FileEntry
from trainforge.project.folders import ProjectError
from trainforged.execution.durable import sync_folder
from trainforged.execution.errors import BadManifest, Damaged, FilesError, MissingContent
from trainforged.execution.files.copying import Copier
from trainforged.execution.files.manifest import check_manifest
from trainforged.execution.syncing import sync_files

_beginning = threading.Lock()  # from a folder's making to its being locked


def lay_out(
    copier: Copier, entries: Sequence[FileEntry], link: Sequence[str], root: Path | None, target: Path
) -> Path:
    """See `trainforged.execution.files.store.Files.materialise`."""
    if _is_there(target, entries):
        return target
    links = _links(link, root)
    check_manifest(entries, links)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside, lock = _begin(target)
    try:
        _fill(copier, entries, {path: f"{root}/{path}" for path in links}, beside)
        _finish(beside, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        os.close(lock)
    return target


def _is_there(target: Path, entries: Sequence[FileEntry]) -> bool:
    """An empty folder is not it, unless the project is empty."""
    with contextlib.suppress(FileNotFoundError):
        return bool(os.listdir(target)) or not entries
    return False


def _links(link: Sequence[str], root: Path | None) -> tuple[str, ...]:
    """What exists of what is to be used in place, relative to the root."""
    if not link:
        return ()
    if root is None:
        raise BadManifest("project.link: the submission does not say where the project was")
    from trainforge.project.patterns import Patterns

    try:
        return Patterns(link, anchored=True).expand(str(root))
    except (ProjectError, OSError) as error:
        raise BadManifest(f"project.link: {error}") from error


def _begin(target: Path) -> tuple[str, int]:
    """A new folder beside the target, and a descriptor whose lock says that someone is at it."""
    prefix = f".{target.name}."
    with _beginning:
        for name in os.listdir(target.parent):
            if name.startswith(prefix) and name.endswith(".new"):
                _clear_if_abandoned(f"{target.parent}/{name}")
        beside = f"{target.parent}/{prefix}{secrets.token_hex(4)}.new"
        os.mkdir(beside, 0o700)
        lock = os.open(beside, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return beside, lock


def _clear_if_abandoned(folder: str) -> None:
    with contextlib.suppress(OSError):
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _fill(copier: Copier, entries: Sequence[FileEntry], links: dict[str, str], folder: str) -> None:
    folders = {folder}
    files = []
    lost: dict[str, FilesError] = {}  # by path: all are looked at, so that one submission restores them all
    for entry in entries:
        path = f"{folder}/{entry.path}"
        _make_folders(os.path.dirname(path), folders)
        if entry.target is not None:
            os.symlink(entry.target, path)
        elif entry.sha256 is not None:
            try:
                copier.copy(entry.sha256, path, entry.mode)
            except (Damaged, MissingContent) as error:
                lost[entry.path] = error
            files.append(path)
    if lost:
        raise _told_by_path(lost)
    for name, original in links.items():
        _make_folders(os.path.dirname(f"{folder}/{name}"), folders)
        os.symlink(original, f"{folder}/{name}")
    sync_files([*files, *folders], folder)


def _told_by_path(lost: dict[str, FilesError]) -> FilesError:
    (path, first), more = next(iter(lost.items())), len(lost) - 1
    others = f" (and {more} more: {', '.join(list(lost)[1:4])}{', …' if more > 3 else ''})" if more else ""
    return type(first)(f"{path}{others}: {first}")


def _make_folders(path: str, made: set[str]) -> None:
    if path not in made:
        os.makedirs(path, mode=0o755, exist_ok=True)
        while path not in made:
            made.add(path)
            path = os.path.dirname(path)


def _finish(beside: str, target: Path) -> None:
    try:
        os.rename(beside, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return  # someone else was first, with the same
    sync_folder(str(target.parent))
