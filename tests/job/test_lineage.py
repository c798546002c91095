"""A rank is known to the shim, dies with its parent, and alone gets the signals meant for it."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.job.attempt import WRAPPER, Attempt, eventually
from trainforge import protocol

UP = "import os\nprint(os.getpid(), os.getppid(), flush=True)\ninput()"


class Shim:
    """Listens where the shim would; what it accepts it keeps open."""

    def __init__(self, name: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind("\0" + name)
        self._socket.listen()
        self._socket.settimeout(20)
        self.lines: list[socket.socket] = []

    def accept(self) -> tuple[dict[str, int], int]:
        """(what the rank says, the pid that the kernel says)."""
        line, _ = self._socket.accept()
        self.lines.append(line)
        said = json.loads(line.makefile().readline())
        return said, struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]

    def close(self) -> None:
        for line in [*self.lines, self._socket]:
            line.close()


@pytest.fixture
def shim(attempt: Attempt) -> Iterator[Shim]:
    name = f"trainforge-test-{os.getpid()}-{id(attempt)}"
    attempt.env[protocol.RANK_SOCKET] = name
    made = Shim(name)
    yield made
    made.close()


def pids(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout
    return [int(word) for word in process.stdout.readline().split()]


def gone(pid: int) -> bool:
    """True when no such process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_rank_registers_and_stays_connected(attempt: Attempt, shim: Shim) -> None:
    attempt.env["RANK"] = "0"
    process = attempt.start([*WRAPPER, attempt.script(UP)], stdin=subprocess.PIPE)
    said, pid = shim.accept()
    assert said == {"rank": 0, "pid": process.pid}
    assert pid == process.pid
    assert pids(process) == [process.pid, os.getpid()]
    shim.lines[0].setblocking(False)
    with pytest.raises(BlockingIOError):
        shim.lines[0].recv(1)
    process.communicate("\n", timeout=100)
    shim.lines[0].setblocking(True)
    assert shim.lines[0].recv(1) == b""


def test_children_do_not_hold_the_connection(attempt: Attempt, shim: Shim) -> None:
    source = """
import os, subprocess, sys
if os.fork() == 0:
    os.read(0, 1)
    os._exit(0)
subprocess.Popen([sys.executable, "-c", "input()"])
print("up", flush=True)
os.kill(os.getpid(), 9)
"""
    process = attempt.start([*WRAPPER, attempt.script(source)], stdin=subprocess.PIPE)
    shim.accept()
    assert process.wait(100) == -signal.SIGKILL
    assert shim.lines[0].recv(1) == b""
    process.communicate("\n\n", timeout=100)


def test_without_a_shim_it_runs_with_a_word(attempt: Attempt) -> None:
    attempt.env[protocol.RANK_SOCKET] = f"trainforge-nobody-{os.getpid()}"
    result = attempt.run([*WRAPPER, attempt.script("print('ran')")])
    assert (result.code, result.stdout) == (0, "ran\n")
    assert "cannot register with the shim" in result.stderr


@pytest.mark.parametrize("ranks", ["1", "2"], ids=["alone", "kept"])
def test_it_dies_with_its_parent(attempt: Attempt, ranks: str) -> None:
    attempt.env["WORLD_SIZE"] = ranks
    parent = "import subprocess, sys\nsubprocess.run([sys.executable, *sys.argv[1:]])"
    script = attempt.script(UP)
    process = attempt.start([attempt.script(parent, "parent.py"), *WRAPPER, script], stdin=subprocess.PIPE)
    rank, above = pids(process)
    assert (above == process.pid) is (ranks == "1")
    process.kill()
    eventually(lambda: gone(rank) and gone(above), "rank and keeper are gone")


def test_a_rank_whose_launcher_has_died_before_never_starts(attempt: Attempt, shim: Shim) -> None:
    """Its parent is the shim then, which adopts orphans: as if started by this process directly."""
    attempt.env["WORLD_SIZE"] = "2"
    process = attempt.start([*WRAPPER, attempt.script("open('started', 'w')")])
    assert shim.accept()[0]["rank"] == 0
    assert process.wait(100) == -signal.SIGKILL
    assert not (attempt.folder / "started").exists()


LAUNCHER = """
import os, signal, subprocess, sys
rank = subprocess.Popen([sys.executable, *sys.argv[1:]], start_new_session=True)
for order in sys.stdin:
    os.killpg(rank.pid, int(order))
    if int(order) == signal.SIGKILL:
        break
os._exit(rank.wait() & 0xFF)
"""

WITH_WORKERS = """
import os, subprocess, sys, time, trainforge
trainforge.should_stop()
worker = os.fork()
if worker == 0:
    time.sleep(600)
program = subprocess.Popen(["sleep", "600"])
print(os.getpid(), os.getppid(), worker, program.pid, flush=True)
while not trainforge.should_stop():
    time.sleep(0.005)
print(os.waitpid(worker, os.WNOHANG)[0], program.poll(), flush=True)
os.kill(worker, 9)
program.kill()
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def launched(attempt: Attempt, shim: Shim) -> subprocess.Popen[str]:
    """A launcher as torch's: ranks in sessions of their own, signals to the whole process group."""
    attempt.env["WORLD_SIZE"] = "2"
    launcher = attempt.script(LAUNCHER, "launcher.py")
    return attempt.start([launcher, *WRAPPER, attempt.script(WITH_WORKERS)], stdin=subprocess.PIPE)


def test_a_signal_to_the_group_reaches_the_rank_alone(launched: subprocess.Popen[str], shim: Shim) -> None:
    said, pid = shim.accept()
    rank, keeper, *_ = pids(launched)
    assert said["pid"] == pid == rank != keeper
    assert os.getsid(keeper) == keeper
    assert os.getsid(rank) == rank
    stdout, _ = launched.communicate(f"{int(signal.SIGTERM)}\n", timeout=100)
    assert stdout == "0 None\n"
    assert launched.returncode == -signal.SIGKILL & 0xFF


def test_killing_the_group_kills_the_rank(launched: subprocess.Popen[str], shim: Shim) -> None:
    shim.accept()
    rank, keeper, worker, program = pids(launched)
    assert launched.stdin
    launched.stdin.write(f"{int(signal.SIGKILL)}\n")
    launched.stdin.flush()
    eventually(lambda: gone(rank) and gone(keeper), "rank and keeper are gone")
    for pid in (worker, program):  # theirs to clean up who stand above
        os.kill(pid, signal.SIGKILL)


ADOPTER = """
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
launcher = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
rank = int(launcher.stdout.readline())
while True:
    pid, status = os.waitpid(-1, 0)
    if pid == rank:
        print(os.waitstatus_to_exitcode(status))
        break
"""


def test_whoever_adopts_orphans_sees_how_the_rank_itself_ended(attempt: Attempt) -> None:
    attempt.env["WORLD_SIZE"] = "2"
    source = "import os, sys\nprint(os.getpid(), flush=True)\nos.kill(os.getpid(), 6)"
    adopter = attempt.script(ADOPTER, "adopter.py")
    launcher = attempt.script(LAUNCHER, "launcher.py")
    result = attempt.run([adopter, launcher, *WRAPPER, attempt.script(source)])
    assert result.stdout == f"{-signal.SIGABRT}\n"


def test_a_keeper_is_small(attempt: Attempt) -> None:
    attempt.env["WORLD_SIZE"] = "2"
    process = attempt.start([*WRAPPER, attempt.script(UP)], stdin=subprocess.PIPE)
    _, keeper = pids(process)
    fields = dict(
        line.split(":") for line in Path(f"/proc/{keeper}/smaps_rollup").read_text().splitlines()[1:]
    )
    assert int(fields["Pss"].split()[0]) < 12_000  # kB; most of it is shared with the rank
    process.communicate("\n", timeout=100)
