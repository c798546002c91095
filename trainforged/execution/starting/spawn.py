"""Starting a shim: quickly, clean of everything of the daemon's, in a session of its own, and where systemd
runs in a unit of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import msgspec

from trainforge.protocol import TOKEN
from trainforged.execution.starting import systemd

START = Path(__file__).parents[1] / "shim" / "start.py"
READY_FD = 3  # as `shim.run` has it
OPTIONS = ("-I", "-S", "-X", "utf8")  # nothing of the user's, whatever the locale: see `shim.start`
KEPT = ("PATH", "LD_LIBRARY_PATH")  # of the daemon's environment: the interpreter may need it


class Spawned(msgspec.Struct, frozen=True):
    """`ready` becomes readable once the command runs or cannot, `pidfd` at the shim's end."""

    pid: int
    pidfd: int
    ready: int


class Contained(msgspec.Struct, frozen=True):
    """It runs in a unit of its own, and is nobody's child here. `ready` may never become readable: the shim
    can die before it has opened its end."""

    unit: str
    ready: int


def spawn(folder: Path, token: str, python: str | None = None) -> Spawned:
    """Start a shim for the attempt in `folder`. It blocks for as long as an exec takes.

    The shim begins with all signals blocked, so that none kills it before it can take it as an order.
    """
    argv, env = _command(folder, python), _environment(token)
    ready, readiness = os.pipe()
    with ExitStack() as stack:
        stack.callback(os.close, readiness)
        null = os.open(os.devnull, os.O_RDONLY)
        stack.callback(os.close, null)
        log = os.open(folder / "shim.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        stack.callback(os.close, log)
        moves = [(null, 0), (log, 1), (log, 2), (readiness, READY_FD)]
        try:
            pid = os.posix_spawn(
                argv[0],
                argv,
                env,
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, to) for fd, to in moves],
                setsid=True,
                setsigmask=signal.valid_signals(),
                setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
            )
        except OSError:
            os.close(ready)
            raise
    return Spawned(pid, os.pidfd_open(pid), ready)


def spawn_contained(
    manager: systemd.Manager, unit: systemd.Unit, folder: Path, token: str, python: str | None = None
) -> Contained:
    """Start a shim for the attempt in `folder` in a unit of its own. Raises `systemd.NotContained`."""
    argv, env, readiness = _command(folder, python), _environment(token), folder / "ready"
    with systemd.fifo(readiness) as ready:
        manager.start(unit, argv, env, log=folder / "shim.log", readiness=readiness)
    return Contained(unit.name, ready)  # the FIFO itself stays: the shim may not have opened it yet


def _command(folder: Path, python: str | None) -> list[str]:
    interpreter = python or os.path.realpath(sys.executable)  # not a venv's link, nor a wrapper of it
    return [interpreter, *OPTIONS, str(START), str(folder)]


def _environment(token: str) -> dict[str, str]:
    return {name: os.environ[name] for name in KEPT if name in os.environ} | {TOKEN: token}


def reap_at_end(spawned: Spawned) -> None:
    """Leave no zombie, whoever the attempt's shim turns out to be. Closes `pidfd`."""
    loop = asyncio.get_running_loop()

    def reap() -> None:
        loop.remove_reader(spawned.pidfd)
        os.close(spawned.pidfd)
        os.waitpid(spawned.pid, os.WNOHANG)

    loop.add_reader(spawned.pidfd, reap)
