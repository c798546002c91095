"""Limits on memory and CPU time, enforced by a kernel with all controllers of cgroup v2: user-mode Linux."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.system import uml


def test_limits_hold_and_what_goes_beyond_them_is_told() -> None:
    """One test, for booting takes the most of it."""
    if uml.kernel() is None:
        pytest.skip("user-mode-linux is not installed (tests/prepare)")
    found = report(uml.run("limits.py"))
    assert "control groups below /sys/fs/cgroup/trainforge, which limit cpu and memory" in found["doctor"]
    assert found["limits"] == [str(64 << 20), "100000 100000"]
    for who in ("itself", "child"):
        assert (found[who]["state"], found[who]["reason"]) == ("failed", "out_of_memory")
        assert "was killed by the kernel: the limit of its memory was reached (process " in found[who]["why"]
    bystander = found["bystander"]  # killed by hand after the others had run out of memory
    assert (bystander["state"], bystander["reason"]) == ("failed", "killed")
    assert "memory" not in bystander["why"].split("\n")[0]
    assert (found["groups"], found["daemon"]) == ([], 0), "something is left"


def report(console: str) -> dict[str, Any]:
    lines = [line for line in console.splitlines() if line.startswith("FOUND ")]
    assert lines, console
    said: dict[str, Any] = json.loads(lines[0].removeprefix("FOUND "))
    return said
