"""Fixtures of the tests of following."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shell.storage.following.eventscene import Scene
from tests.shell.storage.following.recording import Job
from trainforged.storage.following.records import RecordReader
from trainforged.storage.metrics.store import MetricStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MetricStore]:
    store = MetricStore(tmp_path / "metrics.db").open()
    yield store
    store.close()


@pytest.fixture
def reader(store: MetricStore) -> RecordReader:
    return RecordReader(store)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.store.close()
