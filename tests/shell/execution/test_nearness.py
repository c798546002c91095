"""Which cores an attempt is kept on, by what the driver and the bus say of its GPUs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trainforged.execution.starting import nearness

Cores = Callable[..., tuple[int, ...]]
SOCKETS = {"a": "0-3,8-11", "b": "4-7,12-15", "everywhere": "0-15", "nowhere": "", "elsewhere": "64-127"}
ALL = range(16)


@pytest.fixture
def cores(tmp_path: Path) -> Cores:
    """On a machine of two sockets with 8 cores each, and GPUs of many kinds."""
    for number, (name, near) in enumerate(SOCKETS.items()):
        place = f"0000:{number:02x}:00.0"
        (tmp_path / "gpus" / place).mkdir(parents=True)
        (tmp_path / "gpus" / place / "information").write_text(f"GPU UUID: \t GPU-{name}\n")
        (tmp_path / "bus" / place).mkdir(parents=True)
        (tmp_path / "bus" / place / "local_cpulist").write_text(f"{near}\n")

    def of(*names: str, needed: int = 4, ours: range = ALL) -> tuple[int, ...]:
        gpus = [f"GPU-{name}" for name in names]
        return nearness.cores(gpus, needed, tmp_path / "gpus", tmp_path / "bus", ours)

    return of


def test_those_of_its_socket(cores: Cores) -> None:
    assert cores("a") == (0, 1, 2, 3, 8, 9, 10, 11)
    assert cores("b", needed=8) == (4, 5, 6, 7, 12, 13, 14, 15)


def test_only_those_that_we_may_use(cores: Cores) -> None:
    assert cores("a", ours=range(10)) == (0, 1, 2, 3, 8, 9)
    assert cores("a", needed=7, ours=range(10)) == ()


@pytest.mark.parametrize(
    "gpus",
    [(), ("a", "b"), ("everywhere",), ("nowhere",), ("a", "nowhere"), ("elsewhere",), ("unknown",)],
)
def test_any_where_nothing_is_near_or_all_is(cores: Cores, gpus: tuple[str, ...]) -> None:
    assert cores(*gpus) == ()


def test_any_where_too_few_are_near(cores: Cores) -> None:
    assert cores("a", needed=9) == ()
    assert cores("a", needed=0) == ()


def test_any_where_there_is_no_driver(tmp_path: Path) -> None:
    assert nearness.cores(["GPU-a"], 1, tmp_path / "none", tmp_path / "none") == ()
