"""A page that stays open: it sees what happens as it happens, and misses nothing while the daemon is away."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.daemon.real import DEADLINE, RealDaemon, wait_until
from tests.page.conftest import PHONE, Dashboard
from tests.page.programs import SPEAKS, SURVIVES, program
from trainforge.client.sockets import connect
from trainforge.states import JobState
from trainforged.execution.processes import read_proc

HIDE = """hidden => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


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


def test_the_log_goes_on_where_it_was_after_the_daemon_was_away(dashboard: Dashboard) -> None:
    daemon, folder = dashboard.daemon, dashboard.daemon.folder
    job = daemon.command(*program(folder, "speaks", SPEAKS), str(folder), name="speaker").id
    page = dashboard.tab()
    page.goto(f"{dashboard.address}/jobs/{job}#log")
    expect(page.get_by_text("part 0 is done")).to_be_visible()
    (folder / "heard-0").touch()
    expect(page.get_by_text("part 1 is done")).to_be_visible()
    daemon.stop()
    expect(page.get_by_text("Reconnecting…")).to_be_visible()
    (folder / "heard-1").touch()
    daemon.start()
    expect(page.get_by_text("part 2 is done")).to_be_visible()
    for part in range(3):
        expect(page.get_by_text(f"part {part} is done")).to_have_count(1)
    (folder / "heard-2").touch()
    expect(page.locator(".job-title .state")).to_contain_text("succeeded")
    page.context.close()


def test_the_overview_is_true_again_after_the_daemon_was_away(dashboard: Dashboard) -> None:
    """What happened meanwhile is there without a reload: also when nobody else tells of it."""
    daemon = dashboard.daemon
    page = dashboard.tab()
    daemon.stop()
    expect(page.get_by_text("Reconnecting…")).to_be_visible()
    daemon.start()
    daemon.command("true", name="came-later")
    expect(page.get_by_role("link", name="came-later")).to_be_visible()
    page.context.close()


def test_nothing_moves_on_a_phone_while_the_daemon_is_away(dashboard: Dashboard) -> None:
    page = dashboard.tab(*PHONE)
    height = "document.querySelector('header.top').offsetHeight"
    before = page.evaluate(height)
    dashboard.daemon.stop()
    expect(page.get_by_text("Reconnecting…")).to_be_visible()
    assert page.evaluate(height) == before
    dashboard.daemon.start()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    page.context.close()


def test_a_tab_that_nobody_sees_keeps_no_connection(dashboard: Dashboard) -> None:
    """A browser has six of them to the daemon for all its tabs."""
    daemon = dashboard.daemon
    page = dashboard.tab()
    page.clock.install()
    page.reload()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    page.evaluate(HIDE, True)
    page.clock.run_for(31_000)
    wait_until(lambda: streams(daemon) == 0, "the stream to be given back")
    daemon.command("true", name="came-unseen")
    page.evaluate(HIDE, False)
    page.clock.run_for(1_000)
    wait_until(lambda: streams(daemon) == 1, "the stream")
    page.clock.resume()
    expect(page.get_by_role("link", name="came-unseen")).to_be_visible()
    page.context.close()


def streams(daemon: RealDaemon) -> int:
    """That are open, as the daemon counts them."""
    with connect(daemon.socket, DEADLINE)[0] as sock:
        sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    found = re.search(rb"^trainforge_http_streams (\d+)", answer, re.MULTILINE)
    assert found is not None, answer
    return int(found[1])


def legend(page: Page) -> Locator:
    return page.locator("figure[data-title=loss] figcaption")


def kill_the_job(dashboard: Dashboard) -> None:
    for pid in dashboard.daemon.processes():
        line = read_proc(f"/proc/{pid}/cmdline").split(b"\0")
        if len(line) > 1 and line[1].endswith(b"survives.py"):
            os.kill(pid, signal.SIGKILL)
            return
    raise AssertionError("the job's process is not there")
