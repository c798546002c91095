"""The daemon's end of one GPU reader process (`nvml_reader`): start it, ask it, give it up."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from pathlib import Path

import msgspec

from trainforged.devices.wire import Line, Order

COMMAND = (sys.executable, "-P", "-m", "trainforged.devices.nvml_reader")  # -P: not from the current folder
LONGEST_LINE = 2**20
CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})

_decoder = msgspec.json.Decoder(Line)


class ReaderFailed(Exception):
    """No process, or it ended, or it talks nonsense. `crashed`: it died of what it was doing."""

    def __init__(self, message: str, crashed: bool = False) -> None:
        super().__init__(message)
        self.crashed = crashed


class Reader:
    """A running reader. Answers may be awaited with a time limit: giving up loses none of them."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, env: Mapping[str, str]) -> Reader:
        """In a session of its own, so that a Ctrl-C for the daemon is not for it."""
        try:
            process = await asyncio.create_subprocess_exec(
                *COMMAND,
                str(os.getpid()),
                stdin=PIPE,
                stdout=PIPE,
                limit=LONGEST_LINE,
                env=_with_our_package(env),
                start_new_session=True,
            )
        except OSError as error:
            raise ReaderFailed(f"cannot be started ({error})") from error
        return cls(process)

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None

    def ask(self, order: Order) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")

    async def line(self) -> Line:
        """The next line of the answer, or ReaderFailed."""
        assert self._process.stdout is not None
        try:
            line = await self._process.stdout.readline()
            if not line:
                await self._ended()
            return _decoder.decode(line)
        except (msgspec.DecodeError, ValueError, OSError) as error:
            raise ReaderFailed(f"answered nonsense ({error})") from error

    def kill(self) -> None:
        """Does not wait: a process inside a hung driver may live on for as long as that hangs."""
        if not self.ended:
            self._process.kill()

    async def close(self, timeout: float = 1.0) -> None:
        """Lets it end by itself, which it does when idle; else kills it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        for _ in range(2):
            try:
                async with asyncio.timeout(timeout):
                    await self._process.wait()
                return
            except TimeoutError:
                self.kill()

    async def _ended(self) -> None:
        code = await self._process.wait()
        if code >= 0:
            raise ReaderFailed(f"ended with status {code}")
        raise ReaderFailed(f"was ended by {signal.Signals(-code).name}", crashed=-code in CRASHES)


def _with_our_package(env: Mapping[str, str]) -> dict[str, str]:
    """The reader must find this very package, however the daemon was started."""
    paths = [str(Path(__file__).parents[2]), env.get("PYTHONPATH", "")]
    return {**env, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
