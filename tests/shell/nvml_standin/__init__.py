"""NVIDIA's management library for machines without one: built from `nvml.c`, steered by an ini file.

The real `pynvml`, and any program that uses it, finds it by `LD_LIBRARY_PATH` and takes it for the driver's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("nvml.c")
LIBRARY = "libnvidia-ml.so.1"
GCC = ("gcc", "-O2", "-Wall", "-shared", "-fPIC", "-fvisibility=hidden", f"-Wl,-soname,{LIBRARY}")

Values = Mapping[str, object]


def built() -> Path:
    """The library, compiled once for each state of its source. Skips the test where there is no compiler."""
    version = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    target = SOURCE.parent / "__pycache__" / f"nvml-{version}.so"
    if not target.exists():
        if shutil.which("gcc") is None:
            pytest.skip("gcc is not installed, so the stand-in for libnvidia-ml.so.1 cannot be built")
        target.parent.mkdir(exist_ok=True)
        scratch = target.with_suffix(f".{os.getpid()}")
        subprocess.run([*GCC, "-o", scratch, SOURCE], check=True)
        scratch.rename(target)
    return target


def gpu(number: int, **changes: object) -> dict[str, object]:
    """An idle GPU as `Standin.say` takes it. See `nvml.c` for the keys; None leaves one out."""
    usual: dict[str, object] = {
        "uuid": f"GPU-{number:08x}-0000-4000-8000-000000000000",
        "name": "NVIDIA H100 80GB HBM3",
        "pci": f"00000000:{number + 1:02X}:00.0",
        "total": 81920,
        "used": 4,
        "utilisation": 0,
        "temperature": 34,
        "power": 71500,
        "power_limit": 700000,
        "mig": 0,
    }
    return {key: value for key, value in (usual | changes).items() if value is not None}


class Standin:
    """One machine's driver, in a folder of its own. `env` is the environment of whoever should see it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state = folder / "state.ini"
        self.library = Path(shutil.copy(built(), folder / LIBRARY))
        self.env = {**os.environ, "LD_LIBRARY_PATH": str(folder), "NVML_STANDIN": str(self._state)}
        self.say()

    def say(self, *gpus: Values, **driver: object) -> None:
        """What the driver answers from its next call on."""
        sections: dict[str, Values] = {"driver": {"version": "550.54", "count": len(gpus), **driver}}
        sections |= {f"gpu{index}": values for index, values in enumerate(gpus)}
        lines = []
        for name, values in sections.items():
            lines += [f"[{name}]", *(f"{key} = {value}" for key, value in values.items())]
        scratch = self._folder / "state.new"
        scratch.write_text("\n".join(lines) + "\n")
        scratch.rename(self._state)

    @property
    def hung(self) -> bool:
        """Whether somebody is inside a query that does not return."""
        return (self._folder / "state.ini.hung").exists()

    def forget_hang(self) -> None:
        """So that `hung` tells of the next one."""
        (self._folder / "state.ini.hung").unlink(missing_ok=True)

    def upgrade(self) -> None:
        """A package manager puts another library in the place of this one."""
        other = Path(shutil.copy(self.library, self._folder / "new.so"))
        other.rename(self.library)
