"""What every kind of GPU is read through: one sample of each, about once a second.

An inventory only tells. It holds no leases and gives nothing out; `observe` turns its samples
into what the scheduler may know.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from trainforge.api import GpuProcess

SILENT = "the NVIDIA driver does not answer"  # `lost` of a GPU against which nothing else speaks
SIMULATED = "GPU-sim-"  # how the UUIDs of made-up GPUs begin


class Sample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One GPU at one moment. Bytes, per cent, °C, W; None where the device cannot say.

    `memory_total` is 0 where it is not known. `uuid` is empty where a GPU answers so little that not
    even that was found out; then `lost` says why.
    """

    uuid: str
    index: int  # in the order of the PCI bus
    name: str = ""
    pci: str | None = None
    memory_total: int = 0
    memory_used: int | None = None
    utilisation: int | None = None
    temperature: int | None = None
    power: float | None = None
    power_limit: float | None = None
    processes: tuple[GpuProcess, ...] = ()
    mig: bool = False  # divided into instances
    xids: tuple[int, ...] = ()  # the driver's errors since the last sample
    uncorrected: int | None = None  # memory errors that ECC could not correct, since the driver was loaded
    remap_failed: bool = False  # the GPU has no spare memory rows left for bad ones
    lost: str | None = None  # why it cannot be used: it, or the whole driver, does not answer
    stale: bool = False  # not new: what was true when it last answered


class Inventory(Protocol):
    """A source of samples. One caller at a time may await `sample`; `close` ends it for good."""

    @property
    def simulated(self) -> bool: ...

    @property
    def settled(self) -> bool:
        """False until it is known whether there are GPUs: no samples mean nothing before that."""

    @property
    def problem(self) -> str | None:
        """A sentence on why there are no GPUs, or none that can be read. For people."""

    @property
    def driver(self) -> str | None:
        """The driver's version, where there is one."""

    async def sample(self) -> tuple[Sample, ...]:
        """All GPUs by index. Never raises, and answers within a few seconds whatever the driver does."""

    def assign(self, uuid: str, job: int | None) -> None:
        """Tells who holds the GPU from now on. Made-up GPUs follow it; real ones show it themselves."""

    async def close(self) -> None: ...


def is_simulated(uuid: str) -> bool:
    return uuid.startswith(SIMULATED)


def gib(size: int) -> str:
    """`size` bytes for people."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def holder(process: GpuProcess) -> str:
    """`python (pid 4312, bob) uses 10.2 GiB`, with what of it is known."""
    user = f", {process.user}" if process.user else ""
    head = f"{process.name} (pid {process.pid}{user})" if process.name else f"process {process.pid}"
    return f"{head} uses it" if process.memory is None else f"{head} uses {gib(process.memory)}"
