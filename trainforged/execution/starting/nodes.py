"""Which device nodes an attempt may open: of the GPUs only those that it has leased, of all else everything.

For the service manager to enforce, which can only do so for a manager that is root's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/gpus")
DEVICES = Path("/proc/devices")
MAJOR = "195"  # of all GPUs' nodes, and of these two, which every user of a GPU needs
COMMON = ("/dev/nvidiactl", "/dev/nvidia-modeset")


def allowed(gpus: Sequence[str], driver: Path = DRIVER, devices: Path = DEVICES) -> tuple[str, ...]:
    """Values of `DeviceAllow=` for an attempt with these GPUs (UUIDs). Empty: nothing is to be closed, since
    we are not root, or there are no GPUs, or one of these is not known to the driver (a made-up one)."""
    if os.geteuid() != 0 or not driver.is_dir():
        return ()
    minors = dict(_minors(driver))
    if not minors or not set(gpus) <= minors.keys():
        return ()
    nodes = [*COMMON, *(f"/dev/nvidia{minors[gpu]}" for gpu in gpus)]
    return (*(f"{kind} rwm" for kind in _other_kinds(devices)), *(f"{node} rw" for node in nodes))


def informations(driver: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """What the driver says of each GPU, with its place on the PCI bus."""
    for file in sorted(driver.glob("*/information")):
        lines = [line.split(":", 1) for line in file.read_text().splitlines() if ":" in line]
        yield file.parent.name, {name.strip(): value.strip() for name, value in lines}


def _minors(driver: Path) -> Iterator[tuple[str, int]]:
    """UUID, and the number in the name of its node."""
    for _, said in informations(driver):
        if said.get("Device Minor", "").isdecimal():
            yield said.get("GPU UUID", ""), int(said["Device Minor"])


def _other_kinds(devices: Path) -> Iterator[str]:
    """All kinds of devices but GPUs, as systemd names them."""
    prefix, seen = "", set()
    for line in devices.read_text().splitlines():
        number, _, name = line.strip().partition(" ")
        if line.endswith(":"):
            prefix = "block" if line.startswith("Block") else "char"
        elif name and (prefix == "block" or number != MAJOR) and (prefix, name) not in seen:
            seen.add((prefix, name))
            yield f"{prefix}-{name}"
