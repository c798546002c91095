"""Control groups of attempts: real ones where the tests may make some, and folders that look like them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.shell.attempts import Supervised, alive, command
from tests.support import until
from trainforged.core import messages as m
from trainforged.core.messages import AttemptEnd, RankEnd
from trainforged.execution.folder import AttemptFolder
from trainforged.execution.observing import kernel_log
from trainforged.execution.shim.group import Group
from trainforged.execution.starting import groups

FOUND = groups.find()
needs_groups = pytest.mark.skipif(FOUND is None, reason="no control groups (cgroup v2) that are ours to make")

SAYS_WHERE = "print(open('/proc/self/cgroup').read(), flush=True)"
# Leaves the session and the parent, and takes off the mark: only its group tells whose it is.
ESCAPES = """\
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve("/bin/sh", ["sh", "-c", "echo $$ >escaped; exec sleep 600"], {"PATH": os.defpath})
    os._exit(0)
time.sleep(600)
"""


def gone(path: str) -> bool:
    return not os.path.exists(path)


@pytest.fixture
async def grouped(tmp_path: Path) -> AsyncIterator[Supervised]:
    one = Supervised(tmp_path / "state", groups=FOUND)
    yield one
    await one.close()


@needs_groups
async def test_a_command_is_born_in_its_group_which_goes_with_it(grouped: Supervised) -> None:
    grouped.start(1, command(SAYS_WHERE + "; import sys; sys.exit(4)"))
    assert (await grouped.end(1)).exit_code == 4
    folder = AttemptFolder(grouped.folder(1))
    path = folder.group()
    assert path is not None
    assert f"/{groups.name(str(folder.token()))}\n" in (folder.path / "output.log").read_text()
    assert gone(path)


@needs_groups
async def test_the_shim_stays_outside_and_a_stop_empties_the_group(grouped: Supervised) -> None:
    grouped.start(1, command("import time; time.sleep(600)"))
    await grouped.told(m.AttemptStarted, 1)
    (live,) = grouped.supervisor.attempts()
    group = Group(str(AttemptFolder(grouped.folder(1)).group()))
    members = group.members()
    assert live.shim not in members
    assert len(members) == 1
    grouped.stop(1, grace=0.0)
    await grouped.end(1)
    assert gone(group.path)


@needs_groups
async def test_what_took_off_its_mark_does_not_outlive_a_killed_shim(
    grouped: Supervised, tmp_path: Path
) -> None:
    grouped.start(1, command(ESCAPES, cwd=str(tmp_path)))
    await grouped.told(m.AttemptStarted, 1)
    said = tmp_path / "escaped"
    await until(lambda: said.exists() and said.read_text().endswith("\n"))
    (live,) = grouped.supervisor.attempts()
    path = AttemptFolder(grouped.folder(1)).group()
    os.kill(live.shim, signal.SIGKILL)
    assert (await grouped.end(1)).lost
    await until(lambda: not alive(int(said.read_text())))
    grouped.release(1)
    await grouped.told(m.LeaseReleased, 1)
    assert path is not None
    assert gone(path)


@pytest.mark.parametrize("text", ['{"argv": ["x"], "cwd": "/"}', "", None])
def test_no_group_is_read_from_an_order_that_is_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "launch.json").write_text(text)
    assert AttemptFolder(tmp_path).group() is None


def test_where_the_kernel_knows_nothing_of_it_a_fork_is_a_fork(tmp_path: Path) -> None:
    code = (
        "import os, sys; from trainforged.execution.shim.group import Group\n"
        "pid = Group(sys.argv[1]).fork()\n"
        "os._exit(7) if pid == 0 else print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "none")], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "7\n"


def test_kills_are_counted_where_somebody_does(tmp_path: Path) -> None:
    assert Group(str(tmp_path)).oom_kills() is None
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 4\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert Group(str(tmp_path)).oom_kills() == 2


@needs_groups
def test_groups_that_the_job_made_go_too() -> None:
    assert FOUND is not None
    path = FOUND.make(f"test-{os.getpid()}-nested", cpu=1, memory=0)
    assert path is not None
    os.makedirs(f"{path}/its/own")
    assert Group(path).clear(patience=20.0) == ()
    assert gone(path)


def test_what_nobody_removed_is_swept_once_it_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new, used = tmp_path / "trainforge-1-1-a", tmp_path / "trainforge-2-1-b"
    for folder in (new, used / "its", tmp_path / "other"):
        folder.mkdir(parents=True)
    groups.sweep(tmp_path)
    assert not gone(str(new))
    monkeypatch.setattr(groups, "OLD", -1.0)
    groups.sweep(tmp_path)
    assert (gone(str(new)), gone(str(used)), gone(str(tmp_path / "other"))) == (True, False, False)


# ---- where groups are made


def a_group(folder: Path, processes: str = "", **files: str) -> Path:
    folder.mkdir()
    for name, text in {"type": "domain\n", "procs": processes, "subtree_control": "", **files}.items():
        (folder / f"cgroup.{name}").write_text(text)
    return folder


@pytest.fixture
def no_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "SYSTEMD", tmp_path / "no-systemd")


@pytest.mark.usefixtures("no_systemd")
def test_in_the_root_of_all_groups_limits_can_be_had(tmp_path: Path) -> None:
    root = a_group(tmp_path / "root", processes="1\n")
    (root / "cgroup.type").unlink()
    assert groups._parents(root) == [(root, True)]
    assert groups._parents(a_group(root / "daemon")) == [(root, True), (root / "daemon", False)]


@pytest.mark.usefixtures("no_systemd")
@pytest.mark.parametrize(("processes", "limits"), [("", True), ("41\n", False)])
def test_a_group_without_processes_above_ours_may_be_asked_for_limits(
    tmp_path: Path, processes: str, limits: bool
) -> None:
    above = a_group(tmp_path / "above", processes)
    home = a_group(above / "daemon", "42\n")
    assert groups._parents(home) == [*([(above, True)] if limits else []), (home, False)]


def test_a_group_of_systemds_is_left_alone_unless_it_is_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "SYSTEMD", tmp_path)
    home = a_group(a_group(tmp_path / "above") / "daemon")
    assert groups._parents(home) == []
    monkeypatch.setattr(groups, "_handed_over", lambda folder: folder == home)
    assert groups._parents(home) == [(home, False)]


def test_limits_are_written_where_there_are_any(tmp_path: Path) -> None:
    made = groups.Groups(tmp_path, ("cpu", "memory")).make("1-1-a", cpu=2, memory=2**30)
    path = tmp_path / "trainforge-1-1-a"
    assert made == str(path)
    assert (path / "memory.max").read_text() == str(2**30)
    assert (path / "cpu.max").read_text() == "200000 100000"
    groups.Groups(tmp_path, ("pids",)).make("3-1-c", cpu=2, memory=2**30, processes=500)
    assert (tmp_path / "trainforge-3-1-c" / "pids.max").read_text() == "500"
    groups.Groups(tmp_path, ("memory",)).make("2-1-b", cpu=2, memory=0)
    assert list((tmp_path / "trainforge-2-1-b").iterdir()) == []


def test_without_its_folder_an_attempt_has_no_group(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert groups.Groups(tmp_path / "none", ()).make("1-1-a", cpu=1, memory=0) is None
    assert "1-1-a is started without a control group" in caplog.text


# ---- the kernel's log

AT_LIMIT = (
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
    "oom_memcg=/user.slice/trainforge-12-1-abc.service,task_memcg=/user.slice/trainforge-12-1-abc.service,"
    "task=python3,pid=62,uid=1000",
    "Memory cgroup out of memory: Killed process 62 (python3) total-vm:2097152kB, anon-rss:1048576kB",
)
OF_ALL = (
    "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
    "task_memcg=/session-3.scope,task=python3,pid=63,uid=1000",
    "Out of memory: Killed process 63 (python3) total-vm:8388608kB, anon-rss:6291456kB, file-rss:0kB",
)


@pytest.mark.parametrize(
    ("token", "pids", "says"),
    [
        ("12-1-abc", (), "the limit of its memory was reached (process 62, python3, 1.00 GiB)"),
        ("other", (63,), "the machine had no memory left (process 63, python3, 6.00 GiB)"),
        ("other", (64,), None),
    ],
)
def test_the_kernels_log_tells_whose_the_victim_was(
    token: str, pids: tuple[int, ...], says: str | None
) -> None:
    lines = ("usb 1-1: new device", *AT_LIMIT, "oom_reaper: reaped process 62", *OF_ALL)
    assert kernel_log.told(iter(lines), token, frozenset(pids)) == says


@pytest.mark.parametrize(
    ("end", "killed"),
    [
        ({"signal": 9}, True),
        ({"ranks": (RankEnd(rank=0, signal=9),)}, True),
        ({"exit_code": 137}, True),
        ({"tails": {0: "DataLoader worker (pid 4) is killed by signal: Killed."}}, True),
        ({"exit_code": 1}, False),
        ({"signal": 15}, False),
    ],
)
def test_the_log_is_asked_about_what_was_killed(end: dict[str, object], killed: bool) -> None:
    assert kernel_log.looks_killed(AttemptEnd(ended_at=1.0, **end)) == killed  # type: ignore[arg-type]
