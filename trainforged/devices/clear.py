"""Whether a GPU is free again after its job: its memory is what others explain.

The processes of the job are gone when this is asked (`execution.supervisor` sees to it). What is left
to find out is whether the driver has given their memory back; until then the GPU has no next holder.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from trainforged.devices.inventory import Sample, gib, holder, is_simulated

SLACK = 512 * 2**20  # bytes beyond what is explained
TIMEOUT = 30.0


class Held(NamedTuple):
    """GPUs that are not free again, each with a sentence why."""

    lost: dict[str, str]  # the driver does not know them any more
    late: dict[str, str]  # memory is still in use, and may come back


def unexplained(sample: Sample) -> int:
    """Bytes in use that no listed process accounts for: the driver's own, or a desktop that is not listed.

    Taken when a lease begins, it is what `gpus_clear` should expect at its end.
    """
    return max(0, (sample.memory_used or 0) - _explained(sample))


async def gpus_clear(
    gpus: Iterable[str],
    updates: AsyncIterable[Sequence[Sample]],
    expected: Mapping[str, int] | None = None,
    *,
    timeout: float = TIMEOUT,
    clock: Callable[[], float] = time.monotonic,
) -> Held:
    """Those of `gpus` that are not free again in time; usually none.

    Waits for new samples from `updates`, which must keep coming (`Feed.updates_asked_for`): time is looked at
    when one comes. `expected` are bytes by UUID as `unexplained` gave them. Made-up GPUs have no
    memory to wait for.
    """
    waiting = {uuid: "the driver did not say" for uuid in gpus if not is_simulated(uuid)}
    if not waiting:
        return Held({}, {})
    began = clock()
    lost: dict[str, str] = {}
    async for samples in updates:
        for sample in samples:
            if sample.uuid in waiting and not sample.stale:
                _look(sample, (expected or {}).get(sample.uuid, 0), waiting, lost)
        if not waiting or clock() - began >= timeout:
            break
    late = f"{timeout:.0f} s after its job ended"
    return Held(lost, {uuid: f"{late}: {reason}" for uuid, reason in waiting.items()})


def is_clear(sample: Sample, expected: int) -> bool:
    """What `gpus_clear` waited for has come after all."""
    return not sample.stale and not sample.lost and _held(sample, expected) is None


def _look(sample: Sample, expected: int, waiting: dict[str, str], lost: dict[str, str]) -> None:
    """Moves the GPU out of `waiting` when this sample settles it, else notes why it does not."""
    reason = _held(sample, expected)
    if sample.lost:
        lost[sample.uuid] = sample.lost
    if sample.lost or reason is None:
        del waiting[sample.uuid]
    else:
        waiting[sample.uuid] = reason


def _held(sample: Sample, expected: int) -> str | None:
    dead = [process for process in sample.processes if process.name is None]
    if sample.memory_used is None:  # then the list of processes is all there is to go by
        return f"{holder(dead[0])}, but has ended" if dead else None
    explained = expected + _explained(sample)
    if sample.memory_used <= explained + SLACK:
        return None
    return f"{gib(sample.memory_used)} of its memory are in use, {gib(explained)} of it by others"


def _explained(sample: Sample) -> int:
    """A process that is listed but no longer there (it has no name) explains nothing."""
    return sum(process.memory or 0 for process in sample.processes if process.name is not None)
