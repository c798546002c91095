"""GPUs in the daemon: samples become what the core knows, what people see, and what a release waits for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from trainforge.api import GpuList, GpuView
from trainforged.config import Devices as Settings
from trainforged.core import messages as m
from trainforged.core.hangs import GpuUse, gpu_use, together
from trainforged.core.state import State
from trainforged.daemon.engine import Engine
from trainforged.devices.clear import gpus_clear, is_clear, unexplained
from trainforged.devices.feed import Feed
from trainforged.devices.health import fault
from trainforged.devices.inventory import Inventory, Sample, is_simulated
from trainforged.devices.observe import EXCLUDED, observe
from trainforged.web.live import Live

FIRST_PATIENCE = 5.0  # seconds that start-up waits for the first inventory
FIRST_LOOK = 0.05


class DeviceWatch:
    """One per daemon. `ours` gives the processes of running attempts, as pid → job."""

    def __init__(
        self,
        inventory: Inventory,
        engine: Engine,
        live: Live,
        settings: Settings,
        ours: Callable[[], Awaitable[Mapping[int, int]]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.feed = Feed(inventory)
        self.inventory = inventory
        self._engine = engine
        self._live = live
        self._ours = ours
        self._clock = clock
        self._told: tuple[m.Device, ...] | None = None
        self._mine: frozenset[int] = frozenset()  # pids on GPUs that are ours
        self._before: dict[str, Sample] = {}
        self._late: dict[str, str] = {}  # set aside, since memory did not come back in time
        self._expected: dict[str, int] = {}  # bytes in use that were there before the lease

    # ---- loops

    async def look_first(self) -> m.DevicesObserved:
        """The GPUs, before anything is scheduled; the driver may need a moment."""
        deadline = time.monotonic() + FIRST_PATIENCE
        while True:
            self.feed.publish(await self.inventory.sample())
            if self.inventory.settled or time.monotonic() > deadline:
                break
            await asyncio.sleep(FIRST_LOOK)
        self._assign()
        leased = self._leased()  # what runs there is taken for ours until attempts are found again
        self._mine = frozenset(p.pid for s in self.feed.latest if s.uuid in leased for p in s.processes)
        self._told = self._observed()
        return m.DevicesObserved(time=self._clock(), devices=self._told)

    async def run(self) -> None:
        """Follow the GPUs until cancelled. Raises what sampling raises: without it nothing would come."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.feed.run())
            group.create_task(self._follow())

    async def _follow(self) -> None:
        async for _ in self.feed.updates():
            self._assign()
            if any(sample.processes for sample in self.feed.latest):
                self._mine = frozenset(await self._ours())
            self._tell_faults()
            self._tell_returns()
            self._tell_changes()
            if self._live.watched:
                self._live.gpus(self.gpus())

    async def close(self) -> None:
        await self.inventory.close()

    async def clear(self, gpus: Sequence[str]) -> dict[str, str]:
        """Wait until the GPUs are free again; those that are not, with the reason."""
        held = await gpus_clear(gpus, self.feed.updates_asked_for(), self._expected)
        self._late |= held.late
        return held.lost | held.late

    def use(self, job: int) -> GpuUse:
        """What the GPUs of the job do, as far as their figures tell; those of made-up ones tell nothing."""
        leased = self._leased()
        samples = [s for s in self.feed.latest if s.uuid in leased and leased[s.uuid].job == job]
        if self.inventory.simulated or not samples or any(sample.stale for sample in samples):
            return GpuUse.UNKNOWN
        return together([gpu_use(s.utilisation, s.power, s.power_limit) for s in samples])

    # ---- what the core is told

    @property
    def _state(self) -> State:
        return self._engine.state

    def _leased(self) -> dict[str, m.Lease]:
        return {uuid: lease for lease in self._state.leases.values() for uuid in lease.gpus}

    def _assign(self) -> None:
        leased = self._leased()
        aside = {uuid for uuid, device in self._state.devices.items() if device.set_aside}
        for sample in self.feed.latest:
            lease = leased.get(sample.uuid)
            self.inventory.assign(sample.uuid, lease.job if lease is not None else None)
            if lease is None and not sample.stale and sample.uuid not in aside:
                self._expected[sample.uuid] = unexplained(sample)

    def _tell_changes(self) -> None:
        devices = self._observed()
        if devices != self._told:
            self._told = devices
            self._engine.tell(m.DevicesObserved(time=self._clock(), devices=devices))

    def _tell_faults(self) -> None:
        for sample in self.feed.latest:
            why = None if sample.stale else fault(sample, self._before.get(sample.uuid))
            if why is not None:
                self._engine.tell(m.GpuFaulted(time=self._clock(), uuid=sample.uuid, message=why))
            if not sample.stale:
                self._before[sample.uuid] = sample

    def _tell_returns(self) -> None:
        """GPUs whose memory has come back after all; what else was found against one of them stands."""
        for sample in self.feed.latest:
            why, device = self._late.get(sample.uuid), self._state.devices.get(sample.uuid)
            if why is None or device is None or device.set_aside != why:
                continue
            if is_clear(sample, self._expected.get(sample.uuid, 0)):
                del self._late[sample.uuid]
                self._engine.tell(m.GpuCleared(time=self._clock(), uuid=sample.uuid, reason=why))

    def _observed(self) -> tuple[m.Device, ...]:
        leased = frozenset(self._leased())
        seen = {sample.uuid for sample in self.feed.latest}
        known = {
            uuid: device
            for uuid, device in self._state.devices.items()
            if uuid in seen or uuid in leased or not is_simulated(uuid)  # made-up GPUs of a former run
        }
        return observe(
            self.feed.latest,
            known,
            leased,
            self._mine,
            [str(pattern) for pattern in self.settings.exclude],
            self.settings.min_free,
            now=self._clock(),
            problem=self.inventory.problem,
        )

    # ---- what people see

    def gpus(self, history: float | None = None) -> GpuList:
        """All GPUs by index, with their last `history` seconds."""
        leased = self._leased()
        samples = {sample.uuid: sample for sample in self.feed.latest}
        devices = sorted(self._state.devices.values(), key=lambda device: device.index)
        views = tuple(self._view(d, samples.get(d.uuid), leased.get(d.uuid), history) for d in devices)
        return GpuList(gpus=views, problem=self.inventory.problem, driver=self.inventory.driver)

    def _view(
        self, device: m.Device, sample: Sample | None, lease: m.Lease | None, history: float | None
    ) -> GpuView:
        sample = sample or Sample(uuid=device.uuid, index=device.index)
        return GpuView(
            uuid=device.uuid,
            index=device.index,
            name=device.name,
            pci=sample.pci,
            memory_total=device.memory_total,
            memory_used=sample.memory_used,
            utilisation=sample.utilisation,
            temperature=sample.temperature,
            power=sample.power,
            power_limit=sample.power_limit,
            processes=sample.processes,
            state=_standing(device, lease),
            reason=device.refusal,
            job=lease.job if lease is not None else None,
            simulated=self.inventory.simulated,
            history=self.feed.history.of(device.uuid, history) if history is not None else None,
        )


def _standing(device: m.Device, lease: m.Lease | None) -> str:
    """`GpuView.state`: who holds it comes first, then why it is kept back."""
    if lease is not None:
        return "releasing" if lease.releasing else "leased"
    if device.missing is not None or device.set_aside is not None:
        return "set_aside"
    if device.drained is not None:
        return "drained"
    if device.foreign is not None:
        return "excluded" if device.foreign == EXCLUDED else "foreign"
    return "free"
