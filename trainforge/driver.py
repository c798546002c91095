"""Whether it is worth starting a reader at all: cheap signs of NVIDIA hardware or driver."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

LIBRARY = "libnvidia-ml.so.1"
SIGNS = ("proc/driver/nvidia/version", "dev/nvidiactl", "dev/nvhost-gpu", "dev/dxg")  # the last: WSL


def driver_present(env: Mapping[str, str] = os.environ, root: Path = Path("/")) -> bool:
    """True also for a card without a driver: then the reader's answer says what is missing. A library
    named by LD_LIBRARY_PATH counts as well: containers and some distributions put it there."""
    named = filter(None, env.get("LD_LIBRARY_PATH", "").split(":"))
    return (
        any((root / sign).exists() for sign in SIGNS)
        or any((Path(folder) / LIBRARY).exists() for folder in named)
        or any(_display_adapters(root))
    )


def _display_adapters(root: Path) -> Iterator[bool]:
    """One for each PCI device: whether it is a GPU of NVIDIA's."""
    for device in (root / "sys/bus/pci/devices").glob("*"):
        with suppress(OSError):
            vendor, kind = ((device / name).read_text() for name in ("vendor", "class"))
            yield vendor.startswith("0x10de") and kind.startswith("0x03")
