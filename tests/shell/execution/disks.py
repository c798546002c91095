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
    image = folder.with_suffix(".img")
    with open(image, "wb") as file:
        file.truncate(400 << 20)
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
