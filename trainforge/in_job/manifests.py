"""Checkpoints on disk: which there are, and which of them can be used. Reads, hashes, never unpickles.

A checkpoint is a folder `step-<step>` with the files that its `manifest.json` lists, by size and
sha256. The manifest is written last, when all of them are durable: a folder without one was never
finished. A folder that is whole but was not yet given its name (`.trainforge-saving-…`, after a crash
at the very end) counts too.

Used by the Checkpointer and by the daemon. A job may write anything into its folder, so nothing read
here is trusted. Part of the in-job half: standard library only, Python ≥ 3.9.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

from trainforge.protocol import MANIFEST

FORMAT = 1
STATE = "state.pt"
RANK_FILE = "rank-{rank}.pt"
SAVING = ".trainforge-saving-"  # prefix of a folder that is being written
REMOVING = ".trainforge-removing-"  # prefix of a folder that is being removed
_MANIFEST_LIMIT = 16 * 2**20  # bytes
_PUBLISHED = re.compile(r"step-\d+\Z")


class File(NamedTuple):
    name: str
    size: int
    sha256: str


class Checkpoint(NamedTuple):
    """One checkpoint's folder. `problem` says why it cannot be used; None: whole, as far as was looked."""

    path: str
    step: int | None  # None where the manifest could not be read
    time: float  # when it was published, in an order that the clock cannot disturb
    world_size: int = 0
    files: tuple[File, ...] = ()
    metrics: dict[str, float] | None = None
    best: bool = False  # the best when it was published; of several, the newest is the best
    problem: str | None = None

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def folder_name(step: int) -> str:
    return f"step-{step:010d}"


def find_checkpoints(directory: str) -> list[Checkpoint]:
    """All checkpoints in the folder, oldest first, the unusable ones included. Contents are not verified."""
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    ours = (name for name in names if _PUBLISHED.match(name) or name.startswith(SAVING))
    found = (read_checkpoint(os.path.join(directory, name)) for name in ours)
    return sorted(found, key=lambda checkpoint: (checkpoint.time, checkpoint.path))


def newest_whole(directory: str, verify: bool) -> Checkpoint | None:
    """The newest that can be used; `verify` also reads and hashes its files."""
    return next(_whole(directory, verify), None)


def best_whole(directory: str, verify: bool) -> Checkpoint | None:
    """The one with the best metric, where one was given to `save`."""
    return next((checkpoint for checkpoint in _whole(directory, verify) if checkpoint.best), None)


def _whole(directory: str, verify: bool) -> Iterator[Checkpoint]:
    for checkpoint in reversed(find_checkpoints(directory)):
        if checkpoint.problem is None and not (verify and damage(checkpoint)):
            yield checkpoint


def read_checkpoint(path: str) -> Checkpoint:
    """The checkpoint in this folder: its manifest is read, its files are looked for."""
    try:
        checkpoint = _parse(path, _read(os.path.join(path, MANIFEST)))
    except FileNotFoundError:
        return _unusable(path, f"it was not finished: no {MANIFEST}")
    except OSError as error:
        return _unusable(path, f"{MANIFEST} cannot be read: {error.strerror or error}")
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return _unusable(path, f"{MANIFEST} is damaged")
    problem = next((problem for file in checkpoint.files if (problem := _mismatch(path, file))), None)
    return checkpoint._replace(problem=problem)


def damage(checkpoint: Checkpoint) -> str | None:
    """Read all files and compare them with the manifest's hashes: what is wrong, or None."""
    if checkpoint.problem is not None:
        return checkpoint.problem
    for file in checkpoint.files:
        try:
            same = digest(os.path.join(checkpoint.path, file.name)) == file.sha256
        except OSError as error:
            return f"{file.name} cannot be read: {error.strerror or error}"
        if not same:
            return f"{file.name} is damaged: its contents do not match the manifest"
    return None


def digest(path: str) -> str:
    """The sha256 of a file, in hex."""
    summed = hashlib.sha256()
    with open(_open(path), "rb", buffering=0) as file:
        while block := file.read(2**20):
            summed.update(block)
    return summed.hexdigest()


def to_json(checkpoint: Checkpoint) -> bytes:
    """The manifest of a checkpoint, as `read_checkpoint` reads it."""
    fields = {
        "format": FORMAT,
        "step": checkpoint.step,
        "time": checkpoint.time,
        "world_size": checkpoint.world_size,
        "files": [file._asdict() for file in checkpoint.files],
        "metrics": checkpoint.metrics,
        "best": checkpoint.best,
    }
    return json.dumps(fields, indent=1).encode()


def _parse(path: str, data: bytes) -> Checkpoint:
    fields: dict[str, Any] = json.loads(data)
    if fields["format"] != FORMAT or type(fields["step"]) is not int or not math.isfinite(fields["time"]):
        raise ValueError
    metrics = fields["metrics"]
    return Checkpoint(
        path=path,
        step=fields["step"],
        time=float(fields["time"]),
        world_size=int(fields["world_size"]),
        files=tuple(_file(file) for file in fields["files"]),
        metrics=None if metrics is None else {str(name): float(value) for name, value in metrics.items()},
        best=fields["best"] is True,
    )


def _file(fields: dict[str, Any]) -> File:
    name, size, sha256 = fields["name"], fields["size"], fields["sha256"]
    if type(name) is not str or type(size) is not int or type(sha256) is not str:
        raise ValueError
    if name in ("", ".", "..", MANIFEST) or "/" in name or "\0" in name or not name.isprintable():
        raise ValueError
    return File(name, size, sha256)


def _unusable(path: str, problem: str) -> Checkpoint:
    try:
        time = os.stat(path).st_mtime
    except OSError:
        time = 0.0
    return Checkpoint(path=path, step=None, time=time, problem=problem)


def _mismatch(folder: str, file: File) -> str | None:
    try:
        found = os.stat(os.path.join(folder, file.name), follow_symlinks=False)
    except OSError as error:
        return f"{file.name} is missing" if isinstance(error, FileNotFoundError) else f"{file.name}: {error}"
    if not stat.S_ISREG(found.st_mode):
        return f"{file.name} is not a file"
    return None if found.st_size == file.size else f"{file.name} has {found.st_size} of {file.size} bytes"


def _read(path: str) -> bytes:
    with open(_open(path), "rb") as file:
        data = file.read(_MANIFEST_LIMIT + 1)
    if len(data) > _MANIFEST_LIMIT:
        raise ValueError
    return data


def _open(path: str) -> int:
    """Open a plain file, and nothing that could make the reader wait or look elsewhere."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a plain file")
    return descriptor
