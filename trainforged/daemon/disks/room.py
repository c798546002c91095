"""Room on disks, the state folder's and those to which jobs write: what ended for want of it waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from trainforge.states import JobState
from trainforged.core import messages as m
from trainforged.daemon.disks.bounded import bounded
from trainforged.daemon.disks.reserve import Reserve
from trainforged.daemon.engine import Engine

log = logging.getLogger(__name__)

INTERVAL = 5.0  # seconds between two looks
LONGEST_ANSWER = 5.0  # seconds
_FULL_AT = re.compile(r"(?:No space left on device|Disk quota exceeded): '(/[^']+)'")


def has_room(folder: Path, least: int) -> bool:
    """At least `least` bytes are free, or a tenth of a small disk. True where that cannot be told."""
    room = _room(folder, least)
    return room is None or not _is_short(room)


def look_at_disks(
    end: m.AttemptEnd, state_dir: Path, places: Sequence[Path], least: int
) -> tuple[m.Room | None, bool]:
    """The disk that an attempt may have found full, and whether one that it writes to is full.

    It is the one that the attempt names (an error with a path in it), else the shortest of room of its own,
    else of all: a message need not say where. Its own disks may belong to people who like them nearly full:
    they count as full when next to nothing is left.
    """
    own = [found for place in (*places, state_dir) if (found := _room(place, least)) is not None]
    full = not has_room(state_dir, least) or any(room.used_up for room in own)
    for path in _named_in(end):
        if (room := _room(Path(path), least)) is not None:
            return room, full
    own.sort(key=lambda room: room.free)
    short = [room for room in own if _is_short(room)]
    short = short or sorted(filter(_is_short, _all_disks(least)), key=lambda room: room.free)
    return next(iter([*short, *own]), None), full


def _named_in(end: m.AttemptEnd) -> list[str]:
    said = [rank.error or "" for rank in end.ranks] + [*end.tails.values(), end.start_error or ""]
    return [path for text in said for path in _FULL_AT.findall(text)]


def _is_short(room: m.Room) -> bool:
    return room.free < room.wanted - room.free


def _all_disks(least: int) -> list[m.Room]:
    """What is mounted and can be written to."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    except OSError:
        return []
    places = [Path(fields[4]) for fields in mounts if "rw" in fields[5].split(",")]
    return [room for place in places if (room := _room(place, least)) is not None and room.wanted]


def _room(place: Path, least: int) -> m.Room | None:
    """Of the disk on which `place` is, or was. None where that cannot be told."""
    try:
        while not place.exists() and place != place.parent:
            place = place.parent
        usage = shutil.disk_usage(place)
    except OSError:
        return None
    return m.Room(path=str(place), free=usage.free, wanted=usage.free + min(least, usage.total // 10))


class RoomWatch:
    """Tells the engine when room comes or goes, and takes the reserve when there is some. `least` is in
    bytes, and may change with the settings."""

    def __init__(
        self,
        folder: Path,
        engine: Engine,
        reserve: Reserve,
        least: Callable[[], int],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._engine = engine
        self._reserve = reserve
        self._least = least
        self._clock = clock

    async def run(self) -> None:
        """Look until cancelled."""
        known = self._engine.state.machine.room
        while True:
            room = await asyncio.to_thread(has_room, self._folder, self._least())
            if room != known:
                log.warning("the disk of %s %s", self._folder, "has room again" if room else "is full")
                self._engine.tell(m.RoomChanged(time=self._clock(), room=room))
                known = room
            if room:
                await asyncio.to_thread(self._reserve.take)
            if waiting := self._waiting():
                await self._tell_of_room(waiting)
            await asyncio.sleep(INTERVAL)

    async def _tell_of_room(self, waiting: Mapping[int, m.Room]) -> None:
        """Each disk is asked by itself: one that does not answer has no room."""
        for path in {room.path for room in waiting.values()}:
            with contextlib.suppress(TimeoutError):
                free = await bounded(partial(_free, path), LONGEST_ANSWER)
                for job, room in waiting.items():
                    if room.path == path and free >= room.wanted:
                        self._engine.tell(m.RoomFound(time=self._clock(), job=job))

    def _waiting(self) -> dict[int, m.Room]:
        state = self._engine.state
        jobs = (state.jobs[job] for job in state.timed)
        return {job.id: job.room for job in jobs if job.state is JobState.BACKOFF and job.room is not None}


def _free(path: str) -> float:
    """Bytes; without end where the disk has gone: another try will tell."""
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return math.inf
