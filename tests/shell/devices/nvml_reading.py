"""An inventory over a stand-in driver, and its samples."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psutil

from tests.shell.nvml_standin import LIBRARY, Standin
from trainforged.devices.inventory import Sample
from trainforged.devices.nvml import Limits, NvmlInventory

MIB = 2**20
PATIENT = Limits(deadline=60.0, patience=60.0, retry=0.01, slowest_retry=0.01)
HASTY = Limits(deadline=0.05, retry=0.0, slowest_retry=0.0)


@asynccontextmanager
async def inventory_of(
    standin: Standin, limits: Limits = PATIENT, **more: object
) -> AsyncIterator[NvmlInventory]:
    inventory = NvmlInventory(env=standin.env, limits=limits, **more)
    try:
        yield inventory
    finally:
        await inventory.close()


async def sampled(
    inventory: NvmlInventory, accept: Callable[[tuple[Sample, ...]], object], within: float = 120.0
) -> tuple[Sample, ...]:
    """The first samples that `accept` takes."""
    end = time.monotonic() + within
    while not accept(samples := await inventory.sample()):
        assert time.monotonic() < end, f"never came: last were {samples}, problem {inventory.problem}"
        await asyncio.sleep(0.005)
    return samples


def the_reader_in_the_driver_of(daemon: psutil.Process, within: float = 120.0) -> psutil.Process:
    """The reader that this process has started, once it has loaded the driver's library."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        for child in daemon.children():
            if any(LIBRARY in mapped.path for mapped in child.memory_maps()):
                return child
        time.sleep(0.005)
    raise AssertionError("the reader never came to load the driver's library")


def fresh(*indices: int) -> Callable[[tuple[Sample, ...]], bool]:
    """Accepts samples in which these GPUs, and no others, answered anew."""
    return lambda samples: {s.index for s in samples if not s.stale and not s.lost} == set(indices)


def readers() -> list[psutil.Process]:
    """Those of this process; it may have other children, of other tests, that have ended unreaped."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
            if "trainforged.devices.nvml_reader" in child.cmdline():
                found.append(child)
    return found
