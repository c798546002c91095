"""Attempts that stand still, and slow ones that do not."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import signal
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.daemon.real import RealDaemon, wait_until
from trainforge.states import JobState
from trainforged.execution import processes
from trainforged.execution.folder import AttemptFolder
from trainforged.execution.observing import flight, stacks

SCRIPT = """
import os, time, trainforge
def stuck():
    while True:
        time.sleep(0.01)
for step in range(1, 5):
    trainforge.report(step=step)
if os.environ["TRAINFORGE_ATTEMPT"] == "1":
    stuck()
"""


def submit(daemon: RealDaemon, source: str, *options: str) -> int:
    (daemon.folder / "script.py").write_text(textwrap.dedent(source))
    daemon.tfctl("submit", "script.py", "--gpu", "0", *options)
    with daemon.client() as client:
        return client.jobs(limit=1).jobs[0].id


def attempt_dir(daemon: RealDaemon, job: int) -> Path:
    return daemon.state_dir / "jobs" / str(job) / "attempts" / "1"


def suspect(daemon: RealDaemon, job: int, ranks: int = 1) -> None:
    """Take silence for a hang from now on: all ranks have begun, however slowly."""
    records = [attempt_dir(daemon, job) / f"records-{rank}.jsonl" for rank in range(ranks)]
    wait_until(lambda: all(path.exists() for path in records), "a report of each rank")
    daemon.tfctl("update", str(job), "--set", "recovery.hang_timeout=1s")


def test_a_silent_job_is_stopped_with_its_stacks_and_continued(daemon: RealDaemon) -> None:
    job = submit(daemon, SCRIPT, "--set", "recovery.hang_timeout=off", "--set", "recovery.grace=1s")
    suspect(daemon, job)
    ended = daemon.wait_for(job)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)
    assert ended.attempts is not None
    assert ended.attempts[0].reason == "hang"
    kept = (attempt_dir(daemon, job) / "stacks.txt").read_text()
    assert kept.startswith("==> rank 0 <==")
    assert "stuck" in kept
    with daemon.client() as client:
        (found,) = [e.message for e in client.events(job=job) if e.type == "hang_found"]
    assert re.match(r"has reported nothing for \d+ s; rank 0 in stuck \(script.py:\d+\): see /", found)
    assert found.endswith(str(attempt_dir(daemon, job) / "stacks.txt"))


TWO_RANKS = """
import os, subprocess, time, trainforge
def stuck():
    while True:
        time.sleep(0.01)
children = [os.fork() for _ in range(2)]
if 0 in children:
    time.sleep(600)
trainforge.report(step=1)
stuck()
"""


def test_the_stacks_are_the_ranks_own_and_all_of_them_are_kept(daemon: RealDaemon) -> None:
    """Not those of the launcher, of the keeper that stands between, or of a rank's children."""
    options = ("--gpu", "2", "--set", "recovery.max_retries=0", "--set", "recovery.grace=0s")
    job = submit(daemon, TWO_RANKS, *options, "--set", "recovery.hang_timeout=off")
    suspect(daemon, job, ranks=2)
    assert daemon.wait_for(job).reason == "hang"
    kept = (attempt_dir(daemon, job) / "stacks.txt").read_text()
    _, first, second = kept.split("==> rank ")
    for stack in (first, second):
        assert re.search(r"\bstuck\b", stack), kept
        assert not re.search(r"\b_keep\b", stack), kept
    said = daemon.tfctl("why", str(job)).stdout
    assert re.search(r"rank 0 in stuck \(script.py:\d+\), rank 1 in stuck \(script.py:\d+\)", said), said
    assert str(attempt_dir(daemon, job) / "stacks.txt") in said


@pytest.fixture
def running(daemon: RealDaemon) -> Iterator[tuple[str, Path]]:
    """The mark and the folder of an attempt that stands still, and that nobody stops."""
    job = submit(daemon, SCRIPT, "--set", "recovery.hang_timeout=off")
    folder = attempt_dir(daemon, job)
    wait_until(lambda: (folder / "records-0.jsonl").exists(), "its first report")
    yield wait_until(AttemptFolder(folder).token, "its mark"), folder
    daemon.tfctl("cancel", "--now", str(job))


def is_stuck(running: tuple[str, Path]) -> bool:
    """Where it will stay; its first report is there before the last."""
    found = stacks.innermost(stacks.look(*running).stacks[0]) or ""
    return found.startswith("stuck (script.py:")


def stands_still(running: tuple[str, Path]) -> bool:
    """Between two looks; for a moment after its first report it still reads modules, say."""
    first = stacks.look(*running)
    return stacks.look(*running).stands_still_since(first)


def test_ranks_are_found_and_their_stacks_taken_with_and_without_py_spy(
    running: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(stacks.find_ranks(running[0])) == [0]
    if stacks._spy() is not None:
        wait_until(lambda: is_stuck(running), "its place by py-spy")
    monkeypatch.setattr(stacks, "_spy", lambda: None)
    wait_until(lambda: is_stuck(running), "its place without py-spy")
    wait_until(lambda: stands_still(running), "it to stand still: sleeping in a loop is no more")


@contextlib.contextmanager
def suspended(pid: int) -> Iterator[None]:
    """As by a shell's `kill -STOP`."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


DETACH, SEIZE, INTERRUPT = 17, 0x4206, 0x4207  # ptrace(2)


@contextlib.contextmanager
def debugged(pid: int) -> Iterator[None]:
    """As by a debugger at a breakpoint."""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    if ptrace(SEIZE, pid, None, None) != 0:
        pytest.skip(f"no process can be debugged here: {os.strerror(ctypes.get_errno())}")
    assert ptrace(INTERRUPT, pid, None, None) == 0
    try:
        yield
    finally:
        ptrace(DETACH, pid, None, None)


@pytest.mark.parametrize(("holding", "state"), [(suspended, "T"), (debugged, "t")])
def test_a_rank_that_somebody_holds_does_not_stand_still(
    running: tuple[str, Path], holding: Callable[[int], AbstractContextManager[None]], state: str
) -> None:
    (pid,) = stacks.find_ranks(running[0]).values()
    before = stacks.look(*running)
    with holding(pid):
        wait_until(
            lambda: (stat := processes.read_stat(pid)) is not None and stat.state == state, "it to stop"
        )
        now = stacks.look(*running)
        assert (now.stopped, now.states) == (True, {0: state})
        assert not now.stands_still_since(before)
    wait_until(lambda: not stacks.look(*running).stopped, "it to go on")


PAGES_COME_BACK = """
import mmap, os, trainforge
size = 4 << 20
with open("pages", "wb") as file:
    file.write(bytes(size))
    os.fsync(file.fileno())
trainforge.report(step=1)
with open("pages", "rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as pages:
    pages.madvise(mmap.MADV_RANDOM)
    while True:
        pages.madvise(mmap.MADV_DONTNEED)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        for place in range(0, size, mmap.PAGESIZE):
            pages[place]
"""


def test_a_rank_whose_pages_come_back_from_a_disk_does_not_stand_still(daemon: RealDaemon) -> None:
    """As of one that was swapped out."""
    job = submit(daemon, PAGES_COME_BACK, "--set", "recovery.hang_timeout=off")
    folder = attempt_dir(daemon, job)
    wait_until(lambda: (folder / "records-0.jsonl").exists(), "its first report")
    token = wait_until(AttemptFolder(folder).token, "its mark")
    (pid,) = stacks.find_ranks(token).values()

    def came_back() -> int:
        return stacks.PAGE * int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[9])

    before, counted = stacks.look(token, folder), came_back()
    wait_until(lambda: came_back() > counted + 2**20, "pages to come back")
    assert stacks.look(token, folder).moved - before.moved > 2**20
    assert not stacks.look(token, folder).stands_still_since(before)
    daemon.tfctl("cancel", "--now", str(job))


WAITS_FOR_A_CHILD = """
import os, trainforge
if os.fork() == 0:
    parent = os.getppid()
    while os.getppid() == parent:
        pass
trainforge.report(step=1)
os.wait()
"""


def test_a_rank_whose_child_computes_may_be_at_work(daemon: RealDaemon) -> None:
    job = submit(daemon, WAITS_FOR_A_CHILD, "--set", "recovery.hang_timeout=off")
    folder = attempt_dir(daemon, job)
    wait_until(lambda: (folder / "records-0.jsonl").exists(), "its first report")
    token = wait_until(AttemptFolder(folder).token, "its mark")
    before = stacks.look(token, folder)
    wait_until(lambda: stacks.look(token, folder).may_work_since(before), "its child to use the processor")
    wait_until(lambda: stands_still((token, folder)), "the rank itself to wait")
    daemon.tfctl("cancel", "--now", str(job))


def test_a_rank_that_reads_and_writes_does_not_stand_still(daemon: RealDaemon) -> None:
    source = """
        import trainforge
        trainforge.report(step=1)
        with open("copy", "wb") as file:
            while file.seek(0) == 0:
                file.write(bytes(1 << 20))
    """
    job = submit(daemon, source, "--set", "recovery.hang_timeout=off")
    folder = attempt_dir(daemon, job)
    wait_until(lambda: (folder / "records-0.jsonl").exists(), "its first report")
    token = wait_until(AttemptFolder(folder).token, "its mark")
    before = stacks.look(token, folder)
    wait_until(lambda: stacks.look(token, folder).moved > before.moved + 2**20, "it to write")
    daemon.tfctl("cancel", "--now", str(job))


KERNEL_WAITS = """
import fcntl, trainforge
trainforge.report(step=1)
with open("cache.lock", "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
"""
ASKS_AGAIN = """
import trainforge
from filelock import acquire
trainforge.report(step=1)
acquire()
"""
LIBRARY = """
import fcntl, time
def acquire():
    with open("cache.lock", "w") as file:
        while True:
            try:
                return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.05)
"""


@pytest.mark.parametrize("source", [KERNEL_WAITS, ASKS_AGAIN])
def test_a_rank_that_waits_for_another_job_to_be_done_with_a_file_may_be_at_work(
    daemon: RealDaemon, source: str
) -> None:
    (daemon.folder / "filelock").mkdir()
    (daemon.folder / "filelock" / "__init__.py").write_text(LIBRARY)
    with (daemon.folder / "cache.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        job = submit(daemon, source, "--set", "recovery.hang_timeout=off")
        folder = attempt_dir(daemon, job)
        wait_until(lambda: (folder / "records-0.jsonl").exists(), "its first report")
        token = wait_until(AttemptFolder(folder).token, "its mark")
        before = stacks.look(token, folder)
        wait_until(lambda: stacks.look(token, folder).queueing == {0}, "it to wait for the lock")
        assert stacks.look(token, folder).may_work_since(before)
    assert daemon.wait_for(job).state is JobState.SUCCEEDED


def waiting(others_than: set[int]) -> set[int]:
    return stacks.waiting_for_others(Path("/proc/locks").read_text(), others_than)


def test_a_rank_that_waits_for_its_own_child_does_not(daemon: RealDaemon) -> None:
    """Nobody else is to be waited for: such a wait has no end."""
    source = """
        import fcntl, os, time, trainforge
        file = open("own.lock", "w")
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fork() == 0:
            time.sleep(600)
        trainforge.report(step=1)
        with open("own.lock", "w") as again:
            fcntl.flock(again, fcntl.LOCK_EX)
    """
    job = submit(daemon, source, "--set", "recovery.hang_timeout=off")
    folder = attempt_dir(daemon, job)
    wait_until(lambda: (folder / "records-0.jsonl").exists(), "its first report")
    token = wait_until(AttemptFolder(folder).token, "its mark")
    wait_until(lambda: " -> " in Path("/proc/locks").read_text(), "it to wait for the lock")
    (pid,) = stacks.find_ranks(token).values()
    wait_until(lambda: pid in waiting(others_than=set()), "it to wait for the lock")
    assert stacks.look(token, folder).queueing == frozenset()
    assert pid not in waiting(others_than=set(daemon.processes()))
    daemon.tfctl("cancel", "--now", str(job))


NCCL = """
import os, threading, time, trainforge
def read_pipe():  # what torch's ProcessGroupNCCL does on a thread of its own
    path = os.environ["TORCH_NCCL_DEBUG_INFO_PIPE_FILE"] + os.environ["RANK"] + ".pipe"
    os.mkfifo(path + ".new")
    pipe = os.open(path + ".new", os.O_RDWR)
    os.rename(path + ".new", path)  # once it is there, it is read
    while os.read(pipe, 2):
        with open(os.environ["TORCH_FR_DUMP_TEMP_FILE"] + os.environ["RANK"], "w") as file:
            file.write("collectives of rank " + os.environ["RANK"])
threading.Thread(target=read_pipe, daemon=True).start()
trainforge.report(step=1)
while True:
    time.sleep(0.01)
"""


def test_the_flight_recorder_of_each_rank_is_kept_and_named(daemon: RealDaemon) -> None:
    options = ("--gpu", "2", "--set", "recovery.max_retries=0", "--set", "recovery.grace=0s")
    job = submit(daemon, NCCL, *options, "--set", "recovery.hang_timeout=off")
    wait_until(lambda: len([*attempt_dir(daemon, job).glob("flight-*.pipe")]) == 2, "both pipes")
    suspect(daemon, job, ranks=2)
    assert daemon.wait_for(job).reason == "hang"
    for rank in (0, 1):
        kept = (attempt_dir(daemon, job) / f"flight-{rank}").read_text()
        assert kept == f"collectives of rank {rank}"
    assert f"{attempt_dir(daemon, job)}/flight-*" in daemon.tfctl("why", str(job)).stdout


def test_torch_knows_the_names_by_which_its_recorder_is_asked() -> None:
    torch = pytest.importorskip("torch")
    header = Path(torch.__file__).parent / "include/torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp"
    if not header.exists():
        pytest.skip("this torch comes without its headers")
    recorder = header.with_name("FlightRecorder.hpp").read_text()
    assert "TORCH_NCCL_DEBUG_INFO_PIPE_FILE" in header.read_text()
    assert 'c10::str(fileStem, rank, ".pipe")' in header.read_text()
    assert "TORCH_FR_BUFFER_SIZE" in recorder


def test_pipes_that_nobody_reads_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "flight-0.pipe")
    (tmp_path / "flight-1.pipe").write_text("no pipe at all")
    assert flight.record(tmp_path) == []
    assert (tmp_path / "flight-1.pipe").read_text() == "no pipe at all"
