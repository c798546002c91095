"""What is needed to start one attempt, once everything is prepared."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from trainforged.core.messages import StartAttempt

OUTPUT_LIMIT = 1 << 30  # bytes of output kept of one attempt
PROCESSES = 32768  # and threads, of one attempt at one time
LOCK_PREFIX = "trainforge-gpu-"  # with a GPU's UUID: its name among all daemons of the machine


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """A command and what it runs in. Its environment is that of `env_file`, less `unset`, under `env`.

    `ranks` is how many training processes `argv` brings about: 0 a plain command, 1 one that is
    itself the rank, more a launcher of so many.
    """

    argv: tuple[str, ...]
    cwd: str
    env: dict[str, str] = {}
    env_file: str | None = None  # JSON of a `ShellState`
    unset: tuple[str, ...] = ()
    ranks: int = 0
    grace: float = 60.0  # for a stop that does not name its own
    output_limit: int = OUTPUT_LIMIT
    processes: int = PROCESSES  # where a unit or a control group can bound them


class LaunchFile(Launch, frozen=True, kw_only=True):
    """`launch.json`: the whole order to the shim."""

    token: str
    gpus: tuple[str, ...]
    lock_prefix: str
    group: str | None = None  # the folder of the control group that the command is to be born in
    cores: tuple[int, ...] = ()  # that it may run on; empty: all


class CannotStart(Exception):
    """An attempt cannot be started; the text is a sentence for the user.

    `hopeless` says that the same start would fail in the same way.
    """

    def __init__(self, sentence: str, *, hopeless: bool = False) -> None:
        super().__init__(sentence)
        self.hopeless = hopeless


Prepare = Callable[[StartAttempt, Path], Awaitable[Launch]]
"""Lay out what the attempt needs; the path is its folder. Raises `CannotStart`; may be cancelled;
is called again, for the same attempt, by a daemon that takes over."""

GpusClear = Callable[[tuple[str, ...]], Awaitable[dict[str, str]]]
"""Which of these GPUs, held by nobody now, are not clear, and why. Waits until it is sure."""
