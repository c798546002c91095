"""The training project is a folder of scripts, not a package: its tests import them as the scripts do."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2] / "training"
sys.path.insert(0, str(PROJECT))

# Without torch there is nothing here to run.
collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py"]


@pytest.fixture(scope="session")
def project() -> Path:
    return PROJECT


@pytest.fixture(scope="session")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a tiny CIFAR-100: 80 images to train, 40 to test."""
    from tests.training.pictures import write_cifar100

    folder = tmp_path_factory.mktemp("data")
    write_cifar100(folder)
    return folder


@pytest.fixture
def runs(tmp_path: Path, cifar: Path) -> Iterator[object]:
    """Starts runs of train.py, and ends what is left of them."""
    from tests.training.runs import Runs

    with Runs(tmp_path, cifar) as started:
        yield started
