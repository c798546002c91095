"""Which cores lie near GPUs: on the socket whose memory and bus they share.

For the shim to keep its attempt there (its affinity, which everything it starts inherits), and the service
manager (`AllowedCPUs=`, where that choice was delegated to it). It bounds where, not how much: that is
the quota's, so attempts on one socket share its cores, and none is kept from one that is idle there.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from trainforged.execution.starting.nodes import DRIVER, informations

BUS = Path("/sys/bus/pci/devices")


def cores(
    gpus: Sequence[str],
    needed: int,
    driver: Path = DRIVER,
    bus: Path = BUS,
    ours: Collection[int] | None = None,
) -> tuple[int, ...]:
    """Those near any of these GPUs (UUIDs). Empty: the attempt may run anywhere, since it has no GPU, one of
    them lies nowhere in particular or is not known to the driver, all cores are near, or fewer than `needed`
    are. `ours`: the cores that we may use (default: those of this process)."""
    usable = set(os.sched_getaffinity(0) if ours is None else ours)
    places = {said.get("GPU UUID", ""): place for place, said in informations(driver)}
    if not gpus or not set(gpus) <= places.keys():
        return ()
    found = [set(_listed(bus / places[gpu] / "local_cpulist")) & usable for gpu in gpus]
    near = set().union(*found)
    return tuple(sorted(near)) if all(found) and near < usable and 0 < needed <= len(near) else ()


def _listed(path: Path) -> Iterator[int]:
    """The numbers in `0-15,32-47`; none where nothing is said."""
    try:
        text = path.read_text()
    except OSError:
        return
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdecimal():
            yield from range(int(first), int(last or first) + 1)
