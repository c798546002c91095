"""A job that holds a GPU and does not use it is pointed out on the page, as it happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.page.conftest import Dashboard
from tests.page.programs import SPEAKS, program


@pytest.fixture
def dashboard(start_dashboard: Callable[..., Dashboard], tmp_path: Path) -> Dashboard:
    settings = tmp_path / "trainforged.yaml"
    settings.write_text("waste: {below: 100, after: 6s}\n")  # simulated GPUs are never idle
    return start_dashboard(1, "--config", str(settings))


def test_waste_is_pointed_out_while_one_looks(dashboard: Dashboard, tmp_path: Path) -> None:
    daemon = dashboard.daemon
    overview, whole = dashboard.tab(), dashboard.tab()
    speaks = program(daemon.folder, "speaks", SPEAKS)
    job = daemon.command(*speaks, str(tmp_path), name="idler", resources={"gpu": 1}).id
    whole.goto(f"{dashboard.address}/jobs/{job}")
    expect(overview.locator(".running .waste")).to_contain_text("has used")
    expect(whole.locator(".job-head .waste")).to_contain_text("Has used")
    for part in range(3):
        (tmp_path / f"heard-{part}").touch()
    daemon.wait_for(job)
    expect(whole.locator(".job-title .state")).to_contain_text("succeeded")
    expect(whole.locator(".waste")).to_have_count(0)
    expect(overview.locator(".waste")).to_have_count(0)
    overview.context.close()
    whole.context.close()
