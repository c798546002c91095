"""An attempt that a service manager starts: with a stand-in for systemd-run, wherever the tests run."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.shell.attempts import Supervised, command
from trainforged.core import messages as m
from trainforged.execution import attempt, processes
from trainforged.execution.launch import PROCESSES
from trainforged.execution.starting.systemd import Manager, unit_of

# Starts what stands behind `--` as a service: nobody's child here, with nothing of ours but what it is given.
STANDS_IN = f"""#!{os.path.realpath(sys.executable)} -IS
import os, sys
options, argv = sys.argv[1:sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1:]
given = [option.split("=", 1) for option in options if "=" in option]
env = dict(text.split("=", 1) for name, text in given if name == "--setenv")
log = next(text.split(":", 1)[1] for _, text in given if text.startswith("StandardOutput=append:"))
with open(os.environ["XDG_RUNTIME_DIR"] + "/line", "a") as file:
    print(*options, sep="\\n", file=file)
if os.fork() == 0:
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, to in ((null, 0), (output, 1), (output, 2)):
        os.dup2(fd, to)
    os.closerange(3, 64)
    argv = [word.replace("$$", "$") for word in argv]
    os.execve(argv[0], argv, env)
"""


class Contained(Supervised):
    """A supervisor whose manager is that program, or another in its place."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "systemd-run"
        self.runtime = folder
        self.use(STANDS_IN)
        super().__init__(folder / "state", manager=lambda: Manager(str(self.program), self.runtime))

    def use(self, text: str) -> None:
        self.program.write_text(text)
        self.program.chmod(0o755)

    def asked_for(self) -> list[str]:
        return (self.runtime / "line").read_text().splitlines()


@pytest.fixture
async def contained(tmp_path: Path) -> AsyncIterator[Contained]:
    one = Contained(tmp_path)
    yield one
    await one.close()


async def test_the_attempt_is_nobodys_child_and_its_end_is_learnt(contained: Contained) -> None:
    contained.start(1, command("import sys; sys.stdin.read(); print('$HOME $$'); sys.exit(7)", grace=5.0))
    end = await contained.end(1)
    assert (end.exit_code, end.stopped) == (7, False)
    assert (contained.folder(1) / "output.log").read_text() == "$HOME $$\n"
    (unit,) = [line for line in contained.asked_for() if line.startswith("--unit=")]
    assert unit.startswith("--unit=trainforge-1-1-")
    assert {"--property=TimeoutStopSec=65", "--property=CPUQuota=100%", "--property=KillMode=mixed"} <= set(
        contained.asked_for()
    )
    assert f"--property=TasksMax={PROCESSES}" in contained.asked_for()
    unwanted = ("MemoryMax", "AllowedCPUs", "DeviceAllow")
    assert not any(name in line for name in unwanted for line in contained.asked_for()), "none was asked for"


async def test_the_manager_is_told_which_cores_are_near(contained: Contained, tmp_path: Path) -> None:
    unit = unit_of("3-1-x", 3, 1, cpu=2, memory=0, grace=1.0, near=(0, 1, 8))
    manager = Manager(str(contained.program), contained.runtime)
    manager.start(unit, ["true"], {}, log=tmp_path / "log", readiness=tmp_path / "ready")
    assert {"--property=AllowedCPUs=0,1,8", "--property=CPUQuota=200%"} <= set(contained.asked_for())


async def test_it_runs_is_not_our_child_and_is_stopped(contained: Contained) -> None:
    contained.start(1, command("import time; time.sleep(600)"))
    await contained.told(m.AttemptStarted, 1)
    (live,) = contained.supervisor.attempts()
    found = processes.read_stat(live.shim)
    assert found is not None
    assert found.parent != os.getpid()
    contained.stop(1)
    assert (await contained.end(1)).stopped
    assert contained.left(1) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("#!/bin/sh\necho first >&2; echo 'Failed to start: no' >&2; exit 1\n", "Failed to start: no"),
        ("#!/no/such/shell\n", "No such file or directory"),
    ],
)
async def test_where_the_manager_refuses_it_runs_all_the_same(
    contained: Contained, caplog: pytest.LogCaptureFixture, text: str, says: str
) -> None:
    contained.use(text)
    contained.start(1, command("print(1)"))
    assert (await contained.end(1)).exit_code == 0
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "is started without a unit of its own: " in line
    assert says in line


async def test_a_unit_of_which_nothing_is_heard_is_given_up(
    contained: Contained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "LONGEST_START", 0.02)
    contained.use("#!/bin/true\n")
    contained.start(1, command("print(1)"))
    assert "the shim does not start" in str((await contained.end(1)).start_error)
