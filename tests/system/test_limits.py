"""Limits on memory and CPU time, enforced by a kernel with all controllers of cgroup v2: user-mode Linux."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.system import uml
from tests.system.machine import Machine

pytestmark = pytest.mark.skipif(
    uml.kernel() is None, reason="user-mode-linux is not installed (tests/prepare)"
)


WHAT_THEN = (
    "what was done: not started again: the same would take as much memory",
    "what to do: give it more, or let it take less: tfctl retry ",
)


@pytest.mark.slow
def test_a_units_limits_hold_and_what_goes_beyond_them_is_told(machine_off: Machine) -> None:
    found: dict[str, Any] = json.loads(uml.run_in(machine_off, "units.py"))
    assert "error" not in found, found
    assert found["limits"] == [str(64 << 20), "100000 100000"]
    eater = found["eater"]
    assert (eater["state"], eater["reason"]) == ("failed", "out_of_memory")
    assert "was killed by the kernel: " in eater["why"]
    assert all(words in eater["why"] for words in WHAT_THEN)


def test_a_groups_limits_hold_and_what_goes_beyond_them_is_told() -> None:
    """Where there is no systemd. One test, for booting takes the most of it."""
    found = report(uml.run("limits.py"))
    limit = "control groups below /sys/fs/cgroup/trainforge, which limit cpu"
    assert any(f"{limit}{more}" in found["doctor"] for more in (", memory and processes", " and memory"))
    assert found["limits"] == [str(64 << 20), "100000 100000"]
    for who in ("itself", "child"):
        assert (found[who]["state"], found[who]["reason"]) == ("failed", "out_of_memory")
        assert "was killed by the kernel: the limit of its memory was reached (process " in found[who]["why"]
        assert all(words in found[who]["why"] for words in WHAT_THEN)
    bystander = found["bystander"]  # killed by hand after the others had run out of memory
    assert (bystander["state"], bystander["reason"]) == ("failed", "killed")
    assert "memory" not in bystander["why"].split("\n")[0]
    assert (found["groups"], found["daemon"]) == ([], 0), "something is left"


def report(console: str) -> dict[str, Any]:
    if "BOOTED" not in console:
        pytest.skip(f"user-mode Linux does not boot here: {console.strip()[-200:] or 'it says nothing'}")
    lines = [line for line in console.splitlines() if line.startswith("FOUND ")]
    assert lines, console
    said: dict[str, Any] = json.loads(lines[0].removeprefix("FOUND "))
    return said
