"""File systems made for a test. Each skips the test where it cannot be made."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """2 MiB, mounted at a new folder."""
    with _mounted(folder, "-t", "tmpfs", "-o", "size=2m", "tmpfs") as disk:
        yield disk


@contextlib.contextmanager
def reflinking_disk(folder: Path) -> Iterator[Path]:
    """400 MiB of a file system that can share blocks between files."""
    maker = shutil.which("mkfs.xfs") or shutil.which("mkfs.btrfs")
    if maker is None:
        pytest.skip("needs mkfs.xfs or mkfs.btrfs")
    with _formatted(folder, maker, 400 << 20) as disk:
        yield disk


class FreezableDisk:
    """While it is frozen, whoever writes to it is stuck in state D."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._frozen = False

    def freeze(self) -> None:
        if subprocess.run(["fsfreeze", "--freeze", self.place], capture_output=True).returncode != 0:
            pytest.skip("no file system can be frozen here")
        self._frozen = True

    def thaw(self) -> None:
        """Nothing where it is not frozen."""
        if self._frozen:
            subprocess.run(["fsfreeze", "--unfreeze", self.place], check=True)
            self._frozen = False


@contextlib.contextmanager
def freezable_disk(folder: Path) -> Iterator[FreezableDisk]:
    """64 MiB, mounted at a new folder; thawed at the end."""
    if shutil.which("mkfs.ext4") is None or shutil.which("fsfreeze") is None:
        pytest.skip("needs mkfs.ext4 and fsfreeze")
    with _formatted(folder, "mkfs.ext4", 64 << 20) as place:
        disk = FreezableDisk(place)
        try:
            yield disk
        finally:
            disk.thaw()


@contextlib.contextmanager
def _formatted(folder: Path, maker: str, size: int) -> Iterator[Path]:
    image = folder.with_suffix(".img")
    with open(image, "wb") as file:
        file.truncate(size)
    subprocess.run([maker, "-q", image], check=True)
    with _mounted(folder, "-o", "loop", str(image)) as disk:
        yield disk


@contextlib.contextmanager
def _mounted(folder: Path, *arguments: str) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", *arguments, str(folder)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
