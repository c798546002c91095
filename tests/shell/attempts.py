"""Attempts for tests: real folders, real shims, real processes, and a supervisor that says what it tells."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import textwrap
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tests.support import until, wait_for
from trainforge.protocol import TOKEN
from trainforged.core import messages as m
from trainforged.execution import processes
from trainforged.execution.folder import AttemptFolder
from trainforged.execution.launch import Launch, LaunchFile
from trainforged.execution.starting.spawn import Spawned, spawn
from trainforged.execution.supervisor import Supervisor

PYTHON = (os.path.realpath(sys.executable), "-I", "-S", "-u")
ENV = {"PATH": os.environ["PATH"]}
E = TypeVar("E", bound=m.Event)


def python(source: str, *arguments: str) -> tuple[str, ...]:
    """A command that runs this source quickly."""
    return (*PYTHON, "-c", textwrap.dedent(source), *arguments)


def alive(pid: int) -> bool:
    stat = processes.read_stat(pid)
    return stat is not None and not stat.over


class Shimmed:
    """An attempt's folder, and a shim of our own in it."""

    def __init__(self, path: Path, argv: tuple[str, ...], **order: Any) -> None:
        self.path = path
        self.folder = AttemptFolder(path)
        path.mkdir(parents=True, exist_ok=True)
        self.token = f"test-{os.getpid()}-{path.parent.name}-{path.name}"
        env = {**ENV, TOKEN: self.token, "TRAINFORGE_ATTEMPT_DIR": str(path), **order.pop("env", {})}
        fields: dict[str, Any] = {"cwd": str(path), "gpus": (), "lock_prefix": f"test-{os.getpid()}-"} | order
        self.folder.write_order(LaunchFile(argv=argv, env=env, token=self.token, **fields))
        self.shims: list[Spawned] = []

    def start(self) -> Shimmed:
        """Spawn a shim; returns when the command runs or could not be started."""
        shim = spawn(self.path, self.token)
        self.shims.append(shim)
        _await(shim.ready)
        return self

    @property
    def pid(self) -> int:
        return self.shims[-1].pid

    def signal(self, number: int) -> Shimmed:
        signal.pidfd_send_signal(self.shims[-1].pidfd, number)
        return self

    def wait(self, seconds: float = 60.0) -> Shimmed:
        """Until the (last) shim has ended."""
        shim = self.shims[-1]
        _await(shim.pidfd, seconds)
        os.waitpid(shim.pid, 0)
        return self

    def end(self) -> m.AttemptEnd:
        """How it ended, once the shim has."""
        found = self.wait().folder.end()
        assert found is not None, (self.path / "shim.log").read_text()
        return found

    def run(self) -> m.AttemptEnd:
        return self.start().end()

    def text(self, name: str = "output.log") -> str:
        path = self.path / name
        return path.read_text() if path.exists() else ""

    def says(self, words: str, name: str = "output.log") -> Shimmed:
        """Wait until the command's output has a whole line with these words."""
        wait_for(lambda: words in self.text(name).rpartition("\n")[0], what=f"{words!r} in {name}")
        return self

    def left(self) -> list[int]:
        """Processes of the attempt."""
        return [stat.pid for stat in self._left()]

    def _left(self) -> Iterator[processes.Stat]:
        return processes.carriers(TOKEN, self.token)

    def clean(self) -> None:
        for shim in self.shims:
            for fd in (shim.pidfd, shim.ready):
                os.close(fd)
        wait_for(lambda: not processes.kill(self._left))


def _await(fd: int, seconds: float = 60.0) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(seconds * 1000), f"nothing within {seconds} s"


class Supervised:
    """A supervisor over a state folder; `launches` are what its attempts are to run, by job."""

    def __init__(self, state_dir: Path, **options: Any) -> None:
        self.state_dir = state_dir
        self.launches: dict[int, Launch | Callable[[], Awaitable[Launch]]] = {}
        self.stuck: dict[str, str] = {}
        self.prepared = 0
        self.events: list[m.Event] = []
        self._news = asyncio.Event()
        self.supervisor = Supervisor(
            state_dir,
            self._tell,
            self._prepare,
            options.pop("gpus_clear", self._gpus_clear),
            lock_prefix=f"test-{os.getpid()}-",
            **options,
        )

    def start(self, job: int, launch: Any = None, gpus: tuple[str, ...] = ()) -> None:
        if launch is not None:
            self.launches[job] = launch
        self.supervisor.start(m.StartAttempt(job=job, attempt=1, gpus=gpus, cpu=1, memory=0))

    def adopt(self, job: int) -> None:
        self.supervisor.adopt(m.AdoptAttempt(job=job, attempt=1))

    def stop(self, job: int, grace: float = 20.0) -> None:
        self.supervisor.stop(m.StopAttempt(job=job, attempt=1, grace=grace))

    def release(self, job: int, gpus: tuple[str, ...] = ()) -> None:
        self.supervisor.release(m.ReleaseLease(job=job, attempt=1, gpus=gpus))

    async def told(self, kind: type[E], job: int, seconds: float = 60.0) -> E:
        """The first event of this kind about this job; waits for it."""
        async with asyncio.timeout(seconds):
            while not (found := self.of(kind, job)):
                self._news.clear()
                await self._news.wait()
        return found[0]

    async def end(self, job: int) -> m.AttemptEnd:
        return (await self.told(m.AttemptEnded, job)).end

    def of(self, kind: type[E], job: int) -> list[E]:
        return [event for event in self.events if isinstance(event, kind) and event.job == job]  # type: ignore[attr-defined]

    def folder(self, job: int) -> Path:
        return self.state_dir / "jobs" / str(job) / "attempts" / "1"

    def left(self, job: int) -> list[int]:
        return [stat.pid for stat in self._left(job)]

    async def close(self) -> None:
        """The supervisor, and whatever the test left running."""
        await self.supervisor.close()
        for path in self.state_dir.glob("jobs/*"):
            wait_for(lambda job=int(path.name): not processes.kill(lambda: self._left(job)))

    def _left(self, job: int) -> Iterator[processes.Stat]:
        token = AttemptFolder(self.folder(job)).token()
        return iter(()) if token is None else processes.carriers(TOKEN, token)

    def _tell(self, event: m.Event) -> None:
        self.events.append(event)
        self._news.set()

    async def _prepare(self, order: m.StartAttempt, folder: Path) -> Launch:
        self.prepared += 1
        launch = self.launches[order.job]
        return launch if isinstance(launch, Launch) else await launch()

    async def _gpus_clear(self, gpus: tuple[str, ...]) -> dict[str, str]:
        return {gpu: self.stuck[gpu] for gpu in gpus if gpu in self.stuck}


def command(source: str, *arguments: str, **fields: Any) -> Launch:
    """To run this Python source as a command."""
    return Launch(argv=python(source, *arguments), **({"cwd": "/tmp", "env": ENV} | fields))


SLEEP = "import time; print('ready'); time.sleep(60)"


async def ready(supervised: Supervised, job: int, source: str = SLEEP, **fields: object) -> int:
    """Start the job and wait until it runs; its shim's pid."""
    supervised.start(job, command(source, **fields))
    await supervised.told(m.AttemptStarted, job)
    log = supervised.folder(job) / "output.log"
    await until(lambda: log.exists() and "ready\n" in log.read_text())
    (live,) = (live for live in supervised.supervisor.attempts() if live.job == job)
    return live.shim


def escape(token: str) -> int:
    """A process that carries the mark and is no descendant of a shim."""
    env = {**ENV, TOKEN: token}
    return os.posix_spawn("/bin/sleep", ["sleep", "60"], env, setsid=True)


def reap(pid: int) -> int:
    return os.waitpid(pid, 0)[1]
