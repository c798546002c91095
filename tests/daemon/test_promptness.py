"""The loop's thread asks for short turns; what it starts is as it was."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

from trainforged.daemon.promptness import TURN

ASKS = """
import ctypes, json, os, struct, sys
from trainforged.daemon.promptness import take_short_turns
form = struct.Struct("=IIQiIQQQ")
def seen():
    buffer = ctypes.create_string_buffer(form.size)
    number = {"x86_64": 315, "aarch64": 275}[os.uname().machine]
    assert ctypes.CDLL(None).syscall(number, 0, buffer, form.size, 0) == 0
    return form.unpack(buffer.raw)
EXTRA
before, taken, after = seen(), take_short_turns(), seen()
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, json.dumps(seen()).encode())
    os._exit(0)
print(json.dumps([before, taken, after, json.loads(os.read(read, 1000))]))
"""

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64") or os.sched_getscheduler(0) != os.SCHED_OTHER,
    reason="another machine, or not at an ordinary priority",
)


def asked(extra: str = "") -> tuple[list[int], bool, list[int], list[int]]:
    """How the scheduler saw the process before; whether it was taken; how after; and how a child of it."""
    script = ASKS.replace("EXTRA", extra)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if "PermissionError" in done.stderr:
        pytest.skip("the priority cannot be changed here")
    assert done.returncode == 0, done.stderr
    before, taken, after, child = json.loads(done.stdout)
    return before, taken, after, child


@pytest.mark.skipif(os.getpriority(os.PRIO_PROCESS, 0) < 0, reason="above the ordinary priority")
def test_turns_are_short_and_children_have_the_usual_ones() -> None:
    before, taken, after, child = asked()
    if not taken:
        pytest.skip("the kernel refuses it")
    assert child == before
    assert after[3] == before[3], "no more of the machine than before"
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    if release >= (6, 12):
        assert after[5] == TURN < before[5]


def test_who_was_given_another_priority_keeps_it_and_passes_it_on() -> None:
    before, taken, after, child = asked("os.setpriority(os.PRIO_PROCESS, 0, -1)")
    assert not taken
    assert before == after == child
