"""The machine: its GPUs, and the daemon itself."""

from __future__ import annotations

import datetime

import msgspec


class GpuProcess(msgspec.Struct, frozen=True, kw_only=True):
    pid: int
    memory: int | None
    kind: str  # compute | graphics
    name: str | None = None
    user: str | None = None


class GpuHistory(msgspec.Struct, frozen=True, kw_only=True):
    """The last while of one GPU, oldest first; the columns have the same length and end now.
    Units as in `GpuView`; null where nothing was measured."""

    every: float  # seconds between two values
    utilisation: tuple[int | None, ...]
    memory: tuple[int | None, ...]
    temperature: tuple[int | None, ...]
    power: tuple[float | None, ...]


class GpuView(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU. Utilisation 0 … 100, temperature °C, power W; null where the device cannot say."""

    uuid: str
    index: int
    name: str
    pci: str | None
    memory_total: int
    memory_used: int | None
    utilisation: int | None
    temperature: int | None
    power: float | None
    power_limit: float | None
    processes: tuple[GpuProcess, ...]
    state: str  # free | leased | releasing | foreign | set_aside | drained | excluded
    reason: str | None  # for foreign, set_aside, drained, excluded
    job: int | None
    simulated: bool
    history: GpuHistory | None = None  # with `?history=SECONDS`


class GpuList(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/gpus`, and the data of the stream's `gpus` events (without history)."""

    gpus: tuple[GpuView, ...]
    problem: str | None = None  # why there are none, or none that can be read
    driver: str | None = None  # its version, where there is one


class DrainRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/gpus/{uuid}/drain` body (optional)."""

    reason: str | None = None


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs by state."""

    queued: int = 0
    held: int = 0
    starting: int = 0
    running: int = 0
    stopping: int = 0
    backoff: int = 0
    unknown: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0


class GroupsView(msgspec.Struct, frozen=True, kw_only=True):
    """Control groups that the daemon makes: below which folder, and what they limit (`cpu`, `memory`)."""

    folder: str
    limits: tuple[str, ...]


class StatusAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/status`."""

    version: str
    pid: int
    started_at: datetime.datetime
    uptime: float
    user: str
    state_dir: str
    simulated: bool
    jobs: Counts
    gpus_total: int
    gpus_free: int
    cpu_total: int
    cpu_free: int
    memory_total: int
    memory_free: int
    load: tuple[float, float, float]
    disk_free: int
    last_event: int
    project_limit: int = 2 << 30  # bytes of a frozen project
    web: str | None = None  # host:port of the page
    web_problem: str | None = None  # why there is none
    storage_problem: str | None = None  # what is wrong with the state folder's database, while it is
    groups: GroupsView | None = None  # what holds an attempt together that has no unit of systemd's
