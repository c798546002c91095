"""Fixtures of the in-job tests."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.job.attempt import Attempt
from trainforge import protocol
from trainforge.in_job import records, stopping
from trainforged.execution.starting import library as library_of


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with the in-job modules alone."""
    return library_of.ensure(tmp_path_factory.mktemp("lib"))


@pytest.fixture
def attempt(tmp_path: Path, library: Path) -> Iterator[Attempt]:
    made = Attempt(tmp_path, library)
    yield made
    made.end()


@pytest.fixture
def in_attempt(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> Iterator[Attempt]:
    """This process as a rank of the attempt; signals are given back at the end."""
    for name in protocol.RESERVED:
        monkeypatch.delenv(name, raising=False)
    for name in (protocol.ATTEMPT_DIR, protocol.CHECKPOINT_DIR, protocol.TOKEN):
        monkeypatch.setenv(name, attempt.env[name])
    monkeypatch.setattr(records, "_journal", None)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield attempt
    for number, handler in handlers.items():
        signal.signal(number, handler)
    if stopping._State.listening:
        signal.set_wakeup_fd(-1)
    stopping._State.before, stopping._State.listening = {}, False


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], None]]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
