"""A clock that a test sets for one program: a library to be preloaded, built from `clock.c`."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("clock.c")


class SettableClock:
    """`env` is what a program needs of environment to go by it."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("gcc") is None:
            pytest.skip("gcc is not installed, so the clock that can be set cannot be built")
        library = folder / "clock.so"
        subprocess.run(["gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
        self._file = folder / "clock"
        self._later = self._slept = 0
        self.set(0)
        self.env = os.environ | {"LD_PRELOAD": str(library), "CLOCK_FILE": str(self._file)}

    def set(self, later: int) -> None:
        """So many seconds later than the machine's, from now on."""
        self._later = later
        self._write()

    def suspend(self, seconds: int) -> None:
        """So long the machine was asleep: the wall clock went on, the monotonic one did not."""
        self._slept += seconds
        self._write()

    def _write(self) -> None:
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=qq", self._later, self._slept))
