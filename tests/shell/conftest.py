"""Fixtures of the shell's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.shell.attempts import Shimmed, Supervised


@pytest.fixture
def shimmed(tmp_path: Path) -> Iterator[Callable[..., Shimmed]]:
    """Makes attempts with a shim each; what they leave behind is killed."""
    made: list[Shimmed] = []

    def make(argv: tuple[str, ...], **order: object) -> Shimmed:
        made.append(Shimmed(tmp_path / f"attempt-{len(made)}", argv, **order))
        return made[-1]

    yield make
    for one in made:
        one.clean()


@pytest.fixture
async def supervised(tmp_path: Path) -> AsyncIterator[Supervised]:
    one = Supervised(tmp_path / "state")
    yield one
    await one.close()
