"""A queueing program as the comparison sees it."""

from __future__ import annotations

import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from benchmarks import processes

Argv = list[str]


class Peer(ABC):
    """`start` makes a fresh one in a folder of its own; `close` ends everything it started, by pid.

    `script` is text for /bin/sh. `submit` gives the command line that queues it: `parked` is a job
    that stays in the queue, `alone` one that runs only when no other of these does. What is submitted
    from the same shell script one after another runs in that order.
    """

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env: dict[str, str] = dict(os.environ)

    @abstractmethod
    def missing(self) -> str | None:
        """Why it cannot be measured here; None if it can."""

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL to its daemon."""

    @abstractmethod
    def again(self) -> None:
        """Start the daemon again over what the killed one left."""

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def daemons(self) -> Sequence[int]:
        """The processes that make up the idle system."""

    @abstractmethod
    def submit(self, script: str, *, parked: bool = False, alone: bool = False) -> Argv: ...

    @abstractmethod
    def job_id(self, said: str) -> str:
        """From what the submission printed."""

    @abstractmethod
    def park_many(self, count: int) -> None:
        """Queue so many jobs that stay, in the quickest way it has that makes them jobs of their own."""

    @abstractmethod
    def listing(self) -> Argv:
        """Shows all that is queued."""

    @abstractmethod
    def known(self) -> int:
        """How many jobs it knows that have not ended."""

    @abstractmethod
    def cancel(self, job: str) -> Argv: ...

    # ---- what is the same for all

    def run(self, argv: Sequence[str], check: bool = True, patience: float | None = None) -> str:
        """In its environment; what it printed."""
        done = subprocess.run(
            argv, env=self.env, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=patience,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise RuntimeError(
                f"{argv[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-500:]}"
            )
        return done.stdout

    def resident(self) -> int:
        return sum(map(processes.resident, self.processes()))

    def processes(self) -> list[int]:
        """The daemons, and what they keep running."""
        return [pid for daemon in self.daemons() for pid in processes.with_children(daemon)]

    def _popen(self, argv: Sequence[str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as output:
            return subprocess.Popen(
                argv, env=self.env, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip


class Telling(Peer):
    """One that also says, later, how a job ended."""

    @abstractmethod
    def outcomes(self) -> dict[str, bool | None]:
        """Of every job that it knows, by its number: whether it succeeded, None while it has not ended."""
