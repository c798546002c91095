"""The live view as a person meets it: `tfctl top` on a terminal, in front of a served daemon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.daemon import Daemon
from tests.client.terminal import Program
from tests.client.topping import busy, job, replaced, training
from tests.support import wait_for
from trainforge.api import GpuList, JobProgress, Progress
from trainforge.states import JobState

TOP = [sys.executable, "-m", "tfctl", "top"]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Jobs 1 and 2 run, job 3 waits."""
    with Daemon(tmp_path / "d.sock", heartbeat=0.05, news=0.02) as daemon:
        daemon.service.all = {1: training(1), 2: training(2), 3: job(3, JobState.QUEUED)}
        yield daemon


def top(daemon: Daemon, width: int = 80, height: int = 24, **env: str) -> Program:
    return Program(TOP, width, height, TRAINFORGE_SOCKET=str(daemon.path), **env)


def test_it_shows_what_happens_and_leaves_the_terminal_as_it_was(daemon: Daemon) -> None:
    with top(daemon) as view:
        lines = view.sees("2 RUNNING")
        assert view.screen.alternate
        assert not view.screen.cursor
        assert lines[0].startswith("TrainForge  1.0 KiB of disk left  1 simulated GPU, 1 free  2 running")
        assert any(line.startswith("▸  1 job-1 ") for line in lines)
        assert len(lines) == 24
        assert {"32", "1"} <= view.screen.styles, "there are colours"

        daemon.service.all[4] = job(4, JobState.QUEUED, why="waits for job 3 to succeed")
        daemon.do(daemon.service.happen, "job_submitted", 4, "job-4 was submitted by alice")
        lines = view.sees("4 job-4 ")
        view.sees("submitted by alice")
        view.sees("job 3 to succeed")

        progress = Progress(epoch=123.0, epochs=200.0, fraction=0.6, metrics={"loss": 0.5})
        daemon.do(daemon.service.live.progress, JobProgress(job=1, progress=progress))
        view.sees("123/200  0.5000")

        gpus = busy().gpus
        assert gpus is not None
        daemon.do(daemon.service.live.gpus, GpuList(gpus=tuple(replaced(g, history=None) for g in gpus.gpus)))
        view.sees("8 GPUs, 0 free")

        view.resize(130, 40)
        lines = view.sees("VAL ACC")
        assert len(lines) == 40
        view.type("q")
        assert view.ends() == 0


def test_jobs_are_cancelled_and_held_after_a_question(daemon: Daemon) -> None:
    with top(daemon, 100) as view:
        view.sees("2 RUNNING")
        view.type("jc")
        view.sees("cancel job 2 (job-2)?  y / n")
        view.type("n")
        view.sees("q quit")
        assert daemon.service.history == []
        view.type("cy")
        view.sees("job 2 (job-2) runs (attempt 1)")
        assert daemon.service.all[2].state is JobState.CANCELLED
        view.sees("1 RUNNING")

        view.type("Gh")
        wait_for(lambda: daemon.service.all[3].state is JobState.HELD)
        view.sees("1 held")
        daemon.do(daemon.service.end, 3, JobState.FAILED)
        view.sees("NOTHING WAITING")
        assert [e.type for e in daemon.service.history] == ["job_cancelled", "job_held", "job_ended"]


def test_all_of_a_long_queue_can_be_reached(daemon: Daemon) -> None:
    """Of which no more is asked for than is looked at."""
    daemon.service.all |= {n: job(n, JobState.QUEUED) for n in range(4, 120)}
    with top(daemon) as view:
        view.sees("117 WAITING … 1")

        def at_the_end(lines: list[str]) -> bool:
            view.type("G")
            return any(line.startswith("▸  3 job-3 ") for line in lines)

        view.until(at_the_end)


def test_a_restarted_daemon_is_waited_for_and_caught_up_with(daemon: Daemon) -> None:
    with top(daemon) as view:
        view.sees("2 RUNNING")
        daemon.stop()
        view.sees("daemon away since")
        view.type("cy")
        view.sees("cancel job 1: no daemon answers")
        daemon.service.all[5] = training(5)
        daemon.service.happen("attempt_started", 5, "attempt 1 started meanwhile")
        daemon.start()
        view.sees("attempt 1 started meanwhile")
        lines = view.sees("3 RUNNING")
        assert "away" not in lines[0]
        view.signal(signal.SIGTERM)
        assert view.ends() == 128 + signal.SIGTERM


def test_the_log_of_a_job_is_followed(daemon: Daemon) -> None:
    daemon.do(daemon.service.write, 2, b"epoch 1\nepoch 2\n")
    with top(daemon, LINES="5") as view:
        view.sees("2 RUNNING")
        view.type("jl")
        view.sees("epoch 2")
        assert view.screen.lines[0].startswith("job 2 (job-2)")
        daemon.do(daemon.service.write, 2, b"epoch \x1b[31m3\x1b[0m\n")
        view.sees("epoch 3")
        daemon.stop()
        view.sees("daemon away, waiting for it")
        daemon.start()
        view.sees("following")
        daemon.do(daemon.service.end, 2)
        daemon.do(daemon.service.write, 2, b"done\n")
        view.sees("the end")
        view.type("\x1b")
        view.sees("1 RUNNING")
        view.type("\x03")
        assert view.ends() == 0


def test_the_pager_gets_the_terminal_and_gives_it_back(daemon: Daemon, tmp_path: Path) -> None:
    """A pager that says what it reads, one line, and ends on q."""
    pager = tmp_path / "pager"
    pager.write_text('#!/bin/sh\nread line\necho "read: $line"\nread key < /dev/tty\n')
    pager.chmod(0o755)
    daemon.do(daemon.service.write, 1, b"epoch 1\n")
    with top(daemon, PAGER=str(pager)) as view:
        view.sees("2 RUNNING")
        view.type("L")

        def in_pager(lines: list[str]) -> bool:
            return not view.screen.alternate and view.screen.cursor

        view.until(in_pager)
        view.type("q\n")
        view.until(lambda lines: view.screen.alternate)
        view.sees("2 RUNNING")
        view.signal(signal.SIGINT)
        assert view.ends() == 0


SHELL = """
import os, signal, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = os.fork()
if job == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
while True:
    _, status = os.waitpid(job, os.WUNTRACED)
    os.tcsetpgrp(0, os.getpgrp())
    if not os.WIFSTOPPED(status):
        sys.exit(os.waitstatus_to_exitcode(status))
    print("stopped", flush=True)
    input()
    os.tcsetpgrp(0, job)
    os.killpg(job, signal.SIGCONT)
"""


def test_it_stops_with_the_shells_screen_and_goes_on(daemon: Daemon) -> None:
    shell = [sys.executable, "-c", SHELL, *TOP]
    with Program(shell, TRAINFORGE_SOCKET=str(daemon.path)) as view:
        view.sees("2 RUNNING")
        view.type("\x1a")
        view.until(lambda lines: not view.screen.alternate and "stopped" in view.screen.printed)
        assert view.screen.cursor
        assert view.as_found
        view.type("fg\n")
        view.sees("2 RUNNING")
        assert view.screen.alternate
        assert not view.as_found
        view.type("\x03")
        assert view.ends() == 0


def test_no_color_is_honoured(daemon: Daemon) -> None:
    with top(daemon, NO_COLOR="1") as view:
        view.sees("2 RUNNING")
        assert view.screen.styles <= {"0", "1", "2"}, "bold and dim are no colours"


def test_without_a_terminal_it_prints_a_snapshot(daemon: Daemon) -> None:
    daemon.do(daemon.service.happen, "attempt_started", 1, "attempt 1 started")
    env = os.environ | {"TRAINFORGE_SOCKET": str(daemon.path)}
    done = subprocess.run(TOP, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    tables = done.stdout.split("\n\n")
    assert tables[0] == "1 GPU, 1 free; 2 running, 1 waiting; 8 of 8 cores free, 100 B of memory free"
    assert [line.split()[0] for line in tables[1].splitlines()] == ["GPU", "0"]
    assert [line.split()[:2] for line in tables[2].splitlines()] == [
        ["JOB", "NAME"],
        ["1", "job-1"],
        ["2", "job-2"],
    ]
    assert (
        tables[3]
        .splitlines()[1]
        .endswith("waits for 4 GPUs: 2 free; job 11 holds GPU 2, 3 (about 40 min left)")
    )
    assert tables[4].split()[-3:] == ["attempt", "1", "started"]


def test_no_daemon_is_said_at_once(tmp_path: Path) -> None:
    with Program(TOP, TRAINFORGE_SOCKET=str(tmp_path / "none.sock")) as view:
        assert view.ends() == 3
