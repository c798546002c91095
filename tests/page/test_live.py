"""A page that stays open: it sees what happens as it happens, and misses nothing while the daemon is away."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.daemon.real import wait_until
from tests.page.conftest import Dashboard
from tests.page.programs import SURVIVES, program
from trainforge.states import JobState


@pytest.fixture(scope="module")
def dashboard(start_dashboard: Callable[..., Dashboard]) -> Dashboard:
    return start_dashboard(1)


def test_one_curve_over_a_killed_rank_and_a_killed_daemon(dashboard: Dashboard) -> None:
    """Given a job that trains while its page is open, when its process is killed and it goes on from step
    70, and the daemon is killed and comes back, then the page shows one curve, without reloading."""
    daemon, folder = dashboard.daemon, dashboard.daemon.folder
    daemon.command(
        *program(folder, "survives", SURVIVES), str(folder), name="survivor",
        resources={"gpu": 1}, recovery={"max_retries": 3},
    )  # fmt: skip
    daemon.wait_for(1, JobState.RUNNING)
    page = dashboard.tab()
    page.goto(f"{dashboard.address}/jobs/1")
    page.evaluate("window.neverReloaded = true")
    (folder / "until-0").touch()
    wait_until(lambda: (daemon.get("/v1/jobs/1")["progress"] or {}).get("step") == 101, "the first part")
    expect(legend(page)).to_contain_text("2.97")  # 300 / 101

    kill_the_job(dashboard)
    wait_until(lambda: daemon.get("/v1/jobs/1")["attempt"] == 2, "the second attempt")
    expect(page.locator(".facts")).to_contain_text("attempt2")

    daemon.kill()
    expect(page.get_by_text("Reconnecting…")).to_be_visible()
    (folder / "until-1").touch()
    daemon.start()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    (folder / "until-2").touch()
    daemon.wait_for(1)
    expect(page.locator(".job-title .state")).to_contain_text("succeeded")
    # Each step once: nothing is missing, and what the second attempt superseded is not shown.
    whole = "loss: loss is 1 at last, between 1 and 300, 300 points; attempt 2 goes on at 71"
    expect(page.get_by_role("img", name=whole, exact=True)).to_be_visible()
    assert page.evaluate("window.neverReloaded") is True
    page.context.close()


def legend(page: Page) -> Locator:
    return page.locator("figure[data-title=loss] figcaption")


def kill_the_job(dashboard: Dashboard) -> None:
    for pid in dashboard.daemon.processes():
        line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if len(line) > 1 and line[1].endswith(b"survives.py"):
            os.kill(pid, signal.SIGKILL)
            return
    raise AssertionError("the job's process is not there")
