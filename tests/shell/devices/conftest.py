"""Fixtures of the tests of devices."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shell.nvml_standin import Standin


@pytest.fixture
def standin(tmp_path: Path) -> Standin:
    return Standin(tmp_path)
