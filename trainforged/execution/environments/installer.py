"""Running an installer: its output line by line, and nothing of it left when it is given up."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import re
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

from trainforged.execution.errors import EnvironmentFailed

_QUOTED = 15  # lines of an installer that failed
_LONGEST_LINE = 4096


async def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    say: Callable[[str], None],
    keep: int | None = None,
) -> None:
    """Run to the end, giving each line of output to `say`. A descriptor to `keep` stays open in it.

    Raises EnvironmentFailed. Cancelled, it kills the whole process group first.
    """
    process = await _start(argv, cwd, env, keep)
    last: collections.deque[str] = collections.deque(maxlen=_QUOTED)
    try:
        async for line in _lines(process):
            last.append(line)
            say(line)
        code = await process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.shield(process.wait())
        raise
    if code != 0:
        raise EnvironmentFailed("\n".join((f"`{' '.join(argv)}` failed (status {code}):", *last)))


async def _start(argv: Sequence[str], cwd: Path, env: Mapping[str, str], keep: int | None) -> Process:
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env=env,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
            pass_fds=() if keep is None else (keep,),
        )
    except OSError as error:
        raise EnvironmentFailed(f"{argv[0]} cannot be run: {error.strerror}") from error


async def _lines(process: Process) -> AsyncIterator[str]:
    """Lines that are not empty; a carriage return ends one too, and so does an absurd length."""
    assert process.stdout is not None  # it is a pipe
    rest = ""
    while data := await process.stdout.read(1 << 16):
        *lines, rest = re.split(r"[\r\n]", rest + data.decode(errors="replace"))
        if len(rest) > _LONGEST_LINE:
            lines, rest = [*lines, rest], ""
        for line in lines:
            if line.strip():
                yield line.rstrip()[:_LONGEST_LINE]
    if rest.strip():
        yield rest.rstrip()[:_LONGEST_LINE]
