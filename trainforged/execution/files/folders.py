"""Folders that jobs have filled, measured and removed: whatever is in them, and however deep.

Links are not followed; nothing on another disk is touched (what a job has mounted there, say). No depth is
too much: neither paths nor descriptors nor the stack grow with it. Blocking.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path

DEEPEST = 100  # folders within folders that are looked into for their size
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ALL = 0o700


def size(path: Path) -> int:
    """Bytes on the disk below a folder; 0 where there is none."""
    try:
        folder = os.open(path, _FOLDER)
    except OSError:
        return 0
    try:
        return _size(folder, os.fstat(folder).st_dev, DEEPEST)
    finally:
        os.close(folder)


def _size(folder: int, disk: int, deepest: int) -> int:
    total = 0
    for name in os.listdir(folder):
        try:
            found = os.lstat(name, dir_fd=folder)
            if not stat.S_ISDIR(found.st_mode):
                total += found.st_blocks * 512
            elif found.st_dev == disk and deepest:
                below = os.open(name, _FOLDER, dir_fd=folder)
                try:
                    total += _size(below, disk, deepest - 1)
                finally:
                    os.close(below)
        except OSError:  # gone meanwhile, or not ours to look at
            continue
    return total


def remove(path: Path) -> None:
    """The folder with all that is in it. Raises OSError where something stays; all else is gone then."""
    try:
        top = _open(str(path), None)
    except NotADirectoryError:  # a link, say
        os.unlink(path)
        return
    try:
        disk = os.fstat(top).st_dev
        stays: dict[str, OSError] = {}
        while left := [name for name in os.listdir(top) if name not in stays]:
            for name in left:
                try:
                    _remove_entry(name, top, disk)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    stays[name] = error
    finally:
        os.close(top)
    if stays:
        raise next(iter(stays.values()))
    os.rmdir(path)


def _remove_entry(name: str, top: int, disk: int) -> None:
    """Of a folder the folders in it are moved beside it, to be removed after it."""
    if not _is_folder(name, top, disk):
        os.unlink(name, dir_fd=top)
        return
    folder = _open(name, top)
    refused: OSError | None = None
    try:
        for inner in os.listdir(folder):
            try:
                if _is_folder(inner, folder, disk):
                    os.close(_open(inner, folder))  # with the right to move it
                    os.rename(inner, secrets.token_hex(16), src_dir_fd=folder, dst_dir_fd=top)
                else:
                    os.unlink(inner, dir_fd=folder)
            except OSError as error:
                refused = error
    finally:
        os.close(folder)
    if refused is not None:
        raise refused
    os.rmdir(name, dir_fd=top)


def _is_folder(name: str, at: int, disk: int) -> bool:
    """Raises OSError for one of another disk."""
    found = os.lstat(name, dir_fd=at)
    if not stat.S_ISDIR(found.st_mode):
        return False
    if found.st_dev != disk:
        raise OSError(errno.EXDEV, "another disk is mounted there, which is left alone", name)
    return True


def _open(name: str, at: int | None) -> int:
    """A descriptor of the folder, with every right in it: it is its user's, as we are."""
    place = os.open(name, _PLACE, dir_fd=at)
    try:
        if os.fstat(place).st_mode & _ALL != _ALL:
            os.chmod(f"/proc/self/fd/{place}", _ALL)
    finally:
        os.close(place)
    return os.open(name, _FOLDER, dir_fd=at)
