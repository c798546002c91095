"""Seeing to it that nothing of an ended attempt is left: no process, and nothing of it on its GPUs."""

from __future__ import annotations

import asyncio
import logging

from trainforged.execution import leftovers
from trainforged.execution.folder import AttemptFolder
from trainforged.execution.launch import GpusClear
from trainforged.execution.waiting import Threads

LIMIT = 30.0  # seconds for the last process to go before its GPUs are set aside
MARGIN = 5.0  # for the looking itself, which may hang on a process that hangs
TROUBLE = 1.0  # seconds before another look, where the disk refused one

log = logging.getLogger(__name__)


async def release(
    folder: AttemptFolder, gpus: tuple[str, ...], threads: Threads, gpus_clear: GpusClear
) -> dict[str, str]:
    """Returns the GPUs that are not free again, each with its reason; usually none.

    Without a GPU to set aside the waiting for a process has no end: the next attempt must not meet it. Where
    it cannot be looked (a disk that fails), something may be left: it is looked again until it can.
    """
    told = ""
    while True:
        try:
            return await _release(folder, gpus, threads, gpus_clear)
        except Exception as error:
            if repr(error) != told:
                log.exception("what is left of the attempt in %s cannot be looked at", folder.path)
            told = repr(error)
            await asyncio.sleep(TROUBLE)


async def _release(
    folder: AttemptFolder, gpus: tuple[str, ...], threads: Threads, gpus_clear: GpusClear
) -> dict[str, str]:
    token, group, looks = await threads.run(_marks, folder)
    while token is not None:
        left = await _look(token, group, looks, threads, LIMIT + MARGIN if gpus else None)
        if left is None:
            break
        log.warning("of the attempt in %s %s", folder.path, left)
        if gpus:
            return dict.fromkeys(gpus, f"of its last job {left}")
    try:
        return await gpus_clear(gpus) if gpus else {}
    except Exception as error:
        log.exception("GPUs could not be checked")
        return dict.fromkeys(gpus, f"it could not be checked after its last job: {error!r}")


def _marks(folder: AttemptFolder) -> tuple[str | None, str | None, int]:
    """The token to look for (None: nothing was started), the group, and how many looks make sure."""
    end = folder.end()
    return folder.token(), folder.group(), 2 if end is None or end.lost else 1


async def _look(
    token: str, group: str | None, looks: int, threads: Threads, timeout: float | None
) -> str | None:
    """Kill, look, and say what is left; None: nothing."""
    killing = threads.run(leftovers.kill_all, token, group, looks=looks, patience=LIMIT)
    looking = asyncio.ensure_future(killing)
    done, _ = await asyncio.wait([looking], timeout=timeout)
    if not done:
        return "a process hangs so that it cannot even be looked at"
    left = looking.result()
    return f"{leftovers.describe(left)} does not die" if left else None
