"""Whose an event file is, and what its series are called.

A file belongs to the attempt in whose time it was begun, and, where its name has its writer's pid and that
process lives, to the rank which that process is. Of several runs of one attempt, the first one's tags are the
names of series; another one's stand behind its folder.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import msgspec

from trainforge import protocol
from trainforged.storage.following.eventfolders import EventFile

LONGEST_ENVIRON = 1 << 20

_SEPARATORS = re.compile(r"[^0-9a-z]+")


class Writer(msgspec.Struct, frozen=True):
    """A living process, by its environment at its start: its attempt's mark and its rank, if it has any."""

    token: str | None
    rank: int


class Order(msgspec.Struct, frozen=True):
    """What is needed of `launch.json`."""

    token: str


def source(file: EventFile) -> int:
    """A number for the file among those of its job; negative, since ranks' records have the others."""
    place = f"{file.root.name}/{'/'.join(file.parts)}".encode(errors="surrogateescape")
    return -1 - int.from_bytes(hashlib.blake2b(place, digest_size=7).digest(), "big")


def began(attempt_dir: Path) -> float | None:
    """When the attempt was ordered, in seconds since the epoch; None: not yet."""
    try:
        return os.stat(attempt_dir / "launch.json", follow_symlinks=False).st_mtime
    except OSError:
        return None


def token(attempt_dir: Path) -> str | None:
    """The mark on the attempt's processes."""
    try:
        descriptor = os.open(attempt_dir / "launch.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            return msgspec.json.decode(file.read(LONGEST_ENVIRON), type=Order).token
    except (OSError, msgspec.DecodeError):
        return None


def writer(pid: int | None) -> Writer | None:
    """The process, or None where none can be looked at."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            pairs = file.read(LONGEST_ENVIRON).split(b"\0")
    except OSError:
        return None
    found = {name: value for pair in pairs for name, _, value in [pair.partition(b"=")]}
    if not found:  # it is over
        return None
    mark = found.get(protocol.TOKEN.encode())
    rank = found.get(b"RANK", b"0")
    return Writer(
        mark.decode(errors="replace") if mark is not None else None,
        int(rank) if rank.isdigit() and len(rank) <= 4 else 0,
    )


def name(tag: str, run: str, first_run: str) -> str:
    """Of the series for `tag` in the run (a folder) `run`, where `first_run` is the attempt's first."""
    if run == first_run:
        return tag
    place, base = PurePosixPath(run), PurePosixPath(first_run)
    folder = str(place.relative_to(base) if place.is_relative_to(base) else place)
    return f"{os.fsencode(folder).decode(errors='replace')}/{tag}"


def alike(names: Iterable[str]) -> frozenset[str]:
    """The names without what people write differently: `train/loss` is `train_loss`."""
    return frozenset(_SEPARATORS.sub("_", name.casefold()) for name in names)
