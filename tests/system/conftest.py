from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.system import image
from tests.system.machine import DoesNotBoot, Machine


@pytest.fixture(scope="session")
def disk_image() -> Path:
    try:
        return image.ensure()
    except image.Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def start_machine(disk_image: Path) -> Iterator[Callable[[], Machine]]:
    """Boots machines, each with a user on it, and two made-up GPUs for the daemon."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(_machine(disk_image))


@pytest.fixture
def machine_off(disk_image: Path) -> Iterator[Machine]:
    """A machine that has not booted."""
    with _disk(disk_image) as made:
        yield made


@contextmanager
def _machine(disk_image: Path) -> Iterator[Machine]:
    """A container that does not even begin is this machine's doing: there is nothing of ours in it."""
    with _disk(disk_image) as made:
        try:
            made.boot()
        except DoesNotBoot as error:
            pytest.skip(f"no container boots here: {error}")
        yield made


@contextmanager
def _disk(disk_image: Path) -> Iterator[Machine]:
    folder = Path(tempfile.mkdtemp(prefix="tf-machine-"))
    made = Machine(disk_image, folder)
    try:
        made.write("/etc/trainforge/environment", "TRAINFORGED_OPTIONS=--simulate-gpus 2\n")
        yield made
    finally:
        made.destroy()
        shutil.rmtree(folder, ignore_errors=True)
