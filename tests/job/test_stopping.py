"""What SIGTERM and Ctrl-C do to a script, before and after it has asked whether to stop."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.job.attempt import WRAPPER, Attempt

LOOP = """
import sys, time, trainforge
trainforge.should_stop()
print("asking", flush=True)
while not trainforge.should_stop():
    time.sleep(0.005)
print("stopped", trainforge.should_stop(), flush=True)
if "linger" in sys.argv:
    time.sleep(60)
"""


def say(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


@pytest.mark.parametrize("before", [(), WRAPPER], ids=["plain", "wrapped"])
def test_sigterm_ends_the_loop_and_not_the_process(attempt: Attempt, before: tuple[str, ...]) -> None:
    process = attempt.start([*before, attempt.script(LOOP)])
    assert say(process) == "asking"
    process.terminate()
    stdout, stderr = process.communicate(timeout=100)
    assert (process.returncode, stdout) == (0, "stopped True\n")
    assert "asked to stop by SIGTERM" in stderr
    assert len(attempt.records("stopping")) == 1


def test_in_a_job_more_sigterms_change_nothing(attempt: Attempt) -> None:
    process = attempt.start([attempt.script(LOOP + "print(input())")], stdin=subprocess.PIPE)
    assert say(process) == "asking"
    process.terminate()
    assert say(process) == "stopped True"
    process.terminate()
    assert process.communicate("went on", timeout=100)[0] == "went on\n"
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, -signal.SIGINT)]
)
def test_outside_a_job_the_second_signal_ends_it(attempt: Attempt, number: int, status: int) -> None:
    process = attempt.start([attempt.script(LOOP), "linger"], attempt.outside)
    assert say(process) == "asking"
    process.send_signal(number)
    assert say(process) == "stopped True"
    process.send_signal(number)
    assert process.wait(100) == status


@pytest.mark.parametrize("before", [(), WRAPPER], ids=["plain", "wrapped"])
def test_a_script_that_never_asks_is_ended_by_sigterm(attempt: Attempt, before: tuple[str, ...]) -> None:
    script = "import trainforge, time\ntrainforge.report(step=1)\nprint('up', flush=True)\ntime.sleep(60)"
    process = attempt.start([*before, attempt.script(script)])
    assert say(process) == "up"
    process.terminate()
    assert process.wait(100) == -signal.SIGTERM


BUSY = """
import hashlib, trainforge
trainforge.should_stop()
print("busy", flush=True)
hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000)  # seconds inside one call: no handler can run
print(trainforge.should_stop(), flush=True)
"""


def test_sigterm_is_seen_while_the_main_thread_cannot(attempt: Attempt) -> None:
    process = attempt.start([attempt.script(BUSY)])
    assert say(process) == "busy"
    process.terminate()
    assert process.stderr
    assert "asked to stop" in process.stderr.readline()
    assert process.poll() is None
    assert say(process) == "True"


HANDLERS = """
import signal, sys, time, trainforge
def mine(number, frame): print("mine", flush=True)
if "before" in sys.argv: signal.signal(signal.SIGTERM, mine)
trainforge.should_stop()
if "after" in sys.argv: signal.signal(signal.SIGTERM, mine)
print("asking", flush=True)
while not trainforge.should_stop(): time.sleep(0.005)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_handler_of_the_script_is_called_too(attempt: Attempt, when: str) -> None:
    process = attempt.start([attempt.script(HANDLERS), when])
    assert say(process) == "asking"
    process.terminate()
    assert say(process) == "mine"
    assert process.wait(100) == 0


FORKS = """
import multiprocessing, os, subprocess, time, trainforge
trainforge.should_stop()
context = multiprocessing.get_context("fork")
child = context.Process(target=time.sleep, args=(600,))
child.start()
child.terminate()
child.join(100)
print(child.exitcode, trainforge.should_stop(), flush=True)
with context.Pool(2) as pool:
    print(pool.map(abs, [-1, 2]), flush=True)
def ask():
    trainforge.should_stop()
    queue.put("asking")
    while not trainforge.should_stop(): time.sleep(0.005)
queue = context.Queue()
child = context.Process(target=ask)
child.start()
queue.get()
child.terminate()
child.join(100)
print(child.exitcode, trainforge.should_stop(), flush=True)
subprocess.run(["grep", "SigIgn\\\\|SigBlk", "/proc/self/status"])
"""


def test_children_are_ended_by_sigterm_as_ever(attempt: Attempt) -> None:
    stdout = attempt.run([attempt.script(FORKS)]).stdout.splitlines()
    assert stdout[:3] == ["-15 False", "[1, 2]", "0 False"]
    masks = {line.split()[0]: int(line.split()[1], 16) for line in stdout[3:5]}
    assert set(masks) == {"SigBlk:", "SigIgn:"}
    assert not any(mask & 1 << signal.SIGTERM - 1 for mask in masks.values())


INTERRUPT = """
import multiprocessing, os, time, trainforge
trainforge.should_stop()
context = multiprocessing.get_context("fork")
gate = context.Event()
def work():
    print(os.getpid(), flush=True)
    gate.wait()
    print("worked", flush=True)
child = context.Process(target=work)
child.start()
while not trainforge.should_stop(): time.sleep(0.005)
gate.set()
child.join()
print("left", flush=True)
"""


def test_the_first_ctrl_c_spares_the_workers(attempt: Attempt) -> None:
    process = attempt.start([attempt.script(INTERRUPT)], attempt.outside)
    os.kill(int(say(process)), signal.SIGINT)
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=100)
    assert (process.returncode, stdout) == (0, "worked\nleft\n")


def test_asking_first_in_another_thread_is_told(attempt: Attempt) -> None:
    script = """
import threading, trainforge
thread = threading.Thread(target=lambda: [trainforge.should_stop() for _ in range(3)])
thread.start(); thread.join()
print(trainforge.should_stop())
"""
    result = attempt.run([attempt.script(script)])
    assert (result.code, result.stdout) == (0, "False\n")
    assert result.stderr.count("should_stop() was first called outside the main thread") == 1


def test_an_event_loop_keeps_its_wakeup(attempt: Attempt) -> None:
    script = """
import asyncio, os, signal, trainforge
async def main():
    loop = asyncio.get_running_loop()
    got = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, got.set_result, "woken")
    trainforge.should_stop()
    os.kill(os.getpid(), signal.SIGUSR1)
    print(await asyncio.wait_for(got, 60), trainforge.should_stop())
    os.kill(os.getpid(), signal.SIGTERM)
    print(trainforge.should_stop())
asyncio.run(main())
"""
    assert attempt.run([attempt.script(script)]).stdout == "woken False\nTrue\n"
