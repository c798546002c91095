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
        self.set(0)
        self.env = os.environ | {"LD_PRELOAD": str(library), "CLOCK_FILE": str(self._file)}

    def set(self, later: int) -> None:
        """So many seconds later than the machine's, from now on."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", later))
