"""What the daemon makes of the figures of GPUs, and of figures that stop coming."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from tests.core.world import World
from trainforged.config import Devices
from trainforged.core.hangs import GpuUse
from trainforged.daemon.engine import Engine
from trainforged.daemon.watching.clock import boot_time
from trainforged.daemon.watching.devices import DeviceWatch
from trainforged.devices.inventory import Sample
from trainforged.devices.simulated import SimulatedInventory
from trainforged.web.live import Live


class Real(SimulatedInventory):
    """Made-up GPUs that pass for real ones."""

    simulated = False


async def none_of_ours() -> Mapping[int, int]:
    return {}


def watch_of(world: World, inventory: SimulatedInventory) -> DeviceWatch:
    engine = Engine(world.state, world, perform=print, publish=print, clock=boot_time)  # type: ignore[arg-type]
    return DeviceWatch(inventory, engine, Live(), Devices(), none_of_ours)


def test_the_gpus_of_a_job_are_judged_together() -> None:
    world = World(gpus=3)
    job = world.submit(gpu=2)
    world.start(job)
    (lease,) = world.state.leases.values()
    others = [uuid for uuid in world.state.devices if uuid not in lease.gpus]
    watch = watch_of(world, Real(len(world.state.devices), ""))

    def use(*powers: float, stale: bool = False) -> GpuUse:
        figures = {"utilisation": 100, "power_limit": 700.0}
        shown = [*zip(lease.gpus, powers, strict=True), *((uuid, 690.0) for uuid in others)]
        watch.feed.publish(tuple(
            Sample(uuid=uuid, index=index, power=power, stale=stale, **figures)  # type: ignore[arg-type]
            for index, (uuid, power) in enumerate(shown)
        ))  # fmt: skip
        return watch.use(job)

    assert use(130.0, 120.0) is GpuUse.SPINS
    assert use(130.0, 500.0) is GpuUse.WORKS
    assert use(130.0, 500.0, stale=True) is GpuUse.UNKNOWN
    assert watch.use(job + 1) is GpuUse.UNKNOWN


def test_made_up_gpus_tell_nothing() -> None:
    world = World()
    world.start(job := world.submit(gpu=1))
    watch = watch_of(world, SimulatedInventory(len(world.state.devices), ""))
    uuid = next(iter(world.state.leases.values())).gpus[0]
    watch.feed.publish((Sample(uuid=uuid, index=0, utilisation=100, power=600.0, power_limit=700.0),))
    assert watch.use(job) is GpuUse.UNKNOWN


class Broken(SimulatedInventory):
    async def sample(self) -> tuple[Sample, ...]:
        raise ZeroDivisionError


async def test_gpus_are_not_waited_for_in_vain_where_looking_at_them_fails() -> None:
    with pytest.raises(ExceptionGroup) as failed:
        await asyncio.wait_for(watch_of(World(), Broken(2, "")).run(), 60)
    assert failed.group_contains(ZeroDivisionError)
