"""Errors of storage and of files as the API's: what cannot be read or written is refused with the reason."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from trainforge.api import ErrorCode
from trainforged.execution.errors import DiskRefused, FilesError, NoSpace, TooLarge
from trainforged.storage.errors import StorageError, StorageFull
from trainforged.web.errors import ApiProblem

T = TypeVar("T")
P = ParamSpec("P")

SOON = 5.0  # seconds after which another try makes sense


async def stored(work: Awaitable[T]) -> T:
    """What `work` gives. Raises `ApiProblem`."""
    try:
        return await work
    except (StorageFull, NoSpace) as error:
        raise ApiProblem(ErrorCode.NO_SPACE, str(error)) from error
    except TooLarge as error:
        raise ApiProblem(ErrorCode.TOO_LARGE, str(error)) from error
    except (StorageError, DiskRefused) as error:
        raise ApiProblem(ErrorCode.UNAVAILABLE, str(error), retry_after=SOON) from error
    except FilesError as error:
        raise ApiProblem(ErrorCode.INVALID_REQUEST, str(error)) from error


async def looked_up(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `call` returns, made off the loop. Raises `ApiProblem`."""
    return await stored(asyncio.to_thread(call, *args, **kwargs))
