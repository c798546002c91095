"""Made-up GPUs, and the suite that every inventory passes, made up or real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.shell.nvml_standin import Standin, gpu
from trainforge.api import GpuProcess
from trainforged.devices.clear import gpus_clear
from trainforged.devices.feed import Feed
from trainforged.devices.inventory import Inventory, is_simulated
from trainforged.devices.nvml import Limits, NvmlInventory
from trainforged.devices.observe import observe
from trainforged.devices.simulated import MEMORY, SimulatedInventory


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["simulated", "nvml"])
async def inventory(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Inventory]:
    """Three GPUs."""
    made: Inventory
    if request.param == "simulated":
        made = SimulatedInventory(3, str(tmp_path))
    else:
        standin = Standin(tmp_path)
        standin.say(gpu(0), gpu(1), gpu(2))
        made = NvmlInventory(env=standin.env, limits=Limits(deadline=20.0))
    yield made
    await made.close()


async def test_every_inventory_names_its_gpus_once_and_for_good(inventory: Inventory) -> None:
    first, second = await inventory.sample(), await inventory.sample()

    assert [s.index for s in first] == [0, 1, 2]
    assert len({s.uuid for s in first}) == 3
    assert [s.uuid for s in first] == [s.uuid for s in second]
    assert all(is_simulated(s.uuid) == inventory.simulated for s in first)


async def test_every_inventory_gives_figures_in_their_units(inventory: Inventory) -> None:
    for sample in await inventory.sample():
        assert sample.memory_used is not None
        assert 0 < sample.memory_used < sample.memory_total
        assert sample.utilisation in range(101)
        assert sample.temperature in range(20, 50)
        assert sample.power is not None
        assert sample.power_limit is not None
        assert 40 < sample.power < sample.power_limit
        assert (sample.processes, sample.lost, sample.stale, sample.mig) == ((), None, False, False)
        assert sample.pci
    assert (inventory.settled, inventory.problem) == (True, None)


async def test_every_inventory_takes_any_assignment_and_its_gpus_are_offered_again(
    inventory: Inventory,
) -> None:
    uuid = (await inventory.sample())[1].uuid
    for job in (7, 7, None, None):
        inventory.assign(uuid, job)
    inventory.assign("GPU-that-is-not-there", 7)

    samples = await inventory.sample()
    assert [device.refusal for device in observe(samples, {}, now=0.0)] == [None, None, None]

    feed = Feed(inventory, interval=0.01)
    running = asyncio.ensure_future(feed.run())
    assert await gpus_clear([uuid], feed.updates_asked_for()) == ({}, {})
    running.cancel()


async def test_every_inventory_can_be_closed_twice(inventory: Inventory) -> None:
    await inventory.sample()
    await inventory.close()
    await inventory.close()


def test_the_same_folder_has_the_same_gpus_after_a_restart_and_another_has_others() -> None:
    def names(n: int, seed: str) -> list[str]:
        return [sample.uuid for sample in SimulatedInventory(n, seed).at(0.0)]

    assert names(4, "/state/a") == names(8, "/state/a")[:4]
    assert not set(names(4, "/state/a")) & set(names(4, "/state/b"))
    assert all(name.startswith("GPU-sim-") for name in names(4, "/state/a"))


def test_the_figures_follow_from_the_leases_and_the_time() -> None:
    def run() -> list[object]:
        clock = Clock()
        inventory = SimulatedInventory(2, "here", clock)
        uuid = inventory.at(0)[0].uuid
        inventory.assign(uuid, 3)
        clock.now = 1060.0
        inventory.assign(uuid, None)
        return [inventory.at(second) for second in range(1060, 1100)]

    assert run() == run()


def test_a_lease_makes_a_gpu_busy_and_its_end_makes_it_idle() -> None:
    clock = Clock()
    inventory = SimulatedInventory(2, "here", clock)
    uuid = inventory.at(clock.now)[0].uuid
    before = inventory.at(1000.0)

    inventory.assign(uuid, 12)
    assert inventory.at(1000.0)[0].memory_used == before[0].memory_used, "it starts where it was"
    busy = [inventory.at(float(second))[0] for second in range(1000, 1600)]

    memory = [sample.memory_used for sample in busy]
    assert memory == sorted(memory)
    assert 0.4 * MEMORY < memory[-1] < 0.85 * MEMORY
    steady = busy[300:]
    assert all(85 <= s.utilisation <= 98 for s in steady)
    assert all(65 <= s.temperature <= 75 for s in steady)
    assert all(399 <= s.power <= 601 for s in steady)
    assert len({s.utilisation for s in steady}) > 5
    steps = [abs(b.power - a.power) for a, b in pairwise(steady)]
    assert max(steps) < 50, "it wanders, and does not jump"
    idle = [inventory.at(float(second))[1] for second in range(1000, 1600)]
    assert all(0 <= s.utilisation <= 2 and s.temperature == 35 and 59 <= s.power <= 61 for s in idle)

    clock.now = 1600.0
    inventory.assign(uuid, None)
    after = inventory.at(1600.0)[0]
    assert (after.memory_used, after.utilisation < 3) == (before[0].memory_used, True)
    assert abs(after.temperature - busy[-1].temperature) <= 1, "it cools slowly"
    assert inventory.at(1900.0)[0].temperature == 35


def test_the_same_lease_told_again_changes_nothing() -> None:
    clock = Clock()
    inventory = SimulatedInventory(1, "here", clock)
    uuid = inventory.at(0)[0].uuid
    inventory.assign(uuid, 5)
    expected = inventory.at(1030.0)

    clock.now = 1020.0
    inventory.assign(uuid, 5)

    assert inventory.at(1030.0) == expected


def test_no_process_is_on_it_but_those_given() -> None:
    inventory = SimulatedInventory(2, "here")
    uuid = inventory.at(0)[1].uuid
    blender = GpuProcess(pid=9, memory=2**30, kind="compute", name="blender", user="eve")

    inventory.assign(uuid, None, (blender,))

    zero, one = inventory.at(0)
    assert (zero.processes, one.processes) == ((), (blender,))
    assert observe([zero, one], {}, now=0.0)[1].foreign == "blender (pid 9, eve) uses 1.0 GiB"
