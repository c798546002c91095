"""What is added to the end of an attempt before it is judged: how far it came, and the room on its disks."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from msgspec.structs import replace

from trainforged.core import messages as m
from trainforged.daemon.disks.bounded import bounded
from trainforged.daemon.disks.room import LONGEST_ANSWER

log = logging.getLogger(__name__)


async def conclude(
    event: m.AttemptEnded,
    finish: Callable[[int, int], Awaitable[float | None]],
    with_room: Callable[[int, m.AttemptEnd], m.AttemptEnd],
) -> m.AttemptEnded:
    """The event, to be told to the core. `finish(job, attempt)` reads the attempt's last records and gives
    its position; `with_room(job, end)` looks at the disks of one that failed, and may block. Whatever fails,
    the end is told: a job whose end was lost would run, and hold its GPUs, for ever."""
    position, end = None, event.end
    with _told_anyway(event):
        position = await finish(event.job, event.attempt)
    if end.exit_code or end.signal or end.start_error:
        with _told_anyway(event), contextlib.suppress(TimeoutError):
            end = await bounded(partial(with_room, event.job, end), LONGEST_ANSWER)
    return replace(event, end=end, position=position, jitter=random.random())


@contextlib.contextmanager
def _told_anyway(event: m.AttemptEnded) -> Iterator[None]:
    try:
        yield
    except Exception:
        log.exception("attempt %d of job %d ended; not all is known of it", event.attempt, event.job)
