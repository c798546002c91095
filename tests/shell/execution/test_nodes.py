"""Which device nodes an attempt may open, read from what the driver says in /proc."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from trainforged.execution.starting import nodes

Allowed = Callable[..., tuple[str, ...]]

INFORMATION = """\
Model: \t\t NVIDIA GeForce RTX 3090
IRQ:   \t\t 148
GPU UUID: \t {uuid}
Bus Location: \t {bus}
Device Minor: \t {minor}
GPU Excluded:\t No
"""
DEVICES = """\
Character devices:
  1 mem
  5 /dev/tty
136 pts
195 nvidia
195 nvidiactl
235 nvidia-caps
511 nvidia-uvm

Block devices:
  7 loop
259 blkext
"""
OTHERS = (
    "char-mem rwm", "char-/dev/tty rwm", "char-pts rwm", "char-nvidia-caps rwm", "char-nvidia-uvm rwm",
    "block-loop rwm", "block-blkext rwm", "/dev/nvidiactl rw", "/dev/nvidia-modeset rw",
)  # fmt: skip


@pytest.fixture
def allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Allowed:
    """As root, on a machine with two GPUs whose nodes are not in the order of their places."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for uuid, bus, minor in (("GPU-a", "0000:01:00.0", 1), ("GPU-b", "0000:41:00.0", 0)):
        file = tmp_path / "gpus" / bus / "information"
        file.parent.mkdir(parents=True)
        file.write_text(INFORMATION.format(uuid=uuid, bus=bus, minor=minor))
    (tmp_path / "devices").write_text(DEVICES)
    return lambda *gpus: nodes.allowed(gpus, tmp_path / "gpus", tmp_path / "devices")


def test_of_the_gpus_only_the_leased_and_all_else(allowed: Allowed) -> None:
    assert allowed("GPU-a") == (*OTHERS, "/dev/nvidia1 rw")
    assert allowed() == OTHERS


def test_a_gpu_that_the_driver_does_not_know_closes_nothing(allowed: Allowed) -> None:
    assert allowed("GPU-a", "SIM-0") == ()


def test_who_is_not_root_closes_nothing(
    allowed: Allowed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert allowed("GPU-a") == ()
