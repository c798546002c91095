"""A laptop that sleeps: the page has its clock jump and its connections die, and misses nothing."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.daemon.real import RealDaemon, wait_until
from tests.page.conftest import Dashboard
from tests.page.programs import SURVIVES, program
from trainforge.states import JobState

WHOLE = re.compile("^loss: loss is 1 at last, between 1 and 300, 300 points")


@pytest.fixture(scope="module")
def dashboard(start_dashboard: Callable[..., Dashboard]) -> Dashboard:
    return start_dashboard(1)


@pytest.fixture
def way(dashboard: Dashboard) -> Iterator[Way]:
    port = int(dashboard.address.rpartition(":")[2])
    made = Way(port)
    yield made
    made.close()


def test_a_page_catches_up_after_its_machine_slept(dashboard: Dashboard, way: Way, tmp_path: Path) -> None:
    """Given a page that is open while a job trains, when its machine sleeps for an hour and nobody tells it
    that its connections are dead, then it shows each step once, without having been loaded again."""
    daemon = dashboard.daemon
    job = trains(daemon, tmp_path)
    page = dashboard.tab(at=way.address)
    page.clock.install()
    page.goto(f"{way.address}/jobs/{job}")
    page.evaluate("window.neverReloaded = true")
    go_on(daemon, job, tmp_path, 0, 101)
    expect(page.locator("figure[data-title=loss] figcaption")).to_contain_text("2.97")  # 300 / 101

    way.goes_dead()
    go_on(daemon, job, tmp_path, 1, 201)
    (tmp_path / "until-2").touch()
    daemon.wait_for(job)
    expect(page.locator("figure[data-title=loss] figcaption")).to_contain_text("2.97")
    page.clock.fast_forward("01:00:00")

    expect(page.locator(".job-title .state")).to_contain_text("succeeded")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    expect(page.get_by_role("img", name=WHOLE)).to_be_visible()
    assert page.evaluate("window.neverReloaded") is True
    page.context.close()


def test_a_page_that_the_browser_froze_goes_on(dashboard: Dashboard, tmp_path: Path) -> None:
    daemon = dashboard.daemon
    job = trains(daemon, tmp_path)
    page = dashboard.tab()
    page.goto(f"{dashboard.address}/jobs/{job}")
    page.evaluate("window.neverReloaded = true")
    go_on(daemon, job, tmp_path, 0, 101)
    expect(page.locator("figure[data-title=loss] figcaption")).to_contain_text("2.97")

    browser = page.context.new_cdp_session(page)
    browser.send("Page.setWebLifecycleState", {"state": "frozen"})
    go_on(daemon, job, tmp_path, 1, 201)
    (tmp_path / "until-2").touch()
    daemon.wait_for(job)
    browser.send("Page.setWebLifecycleState", {"state": "active"})

    expect(page.locator(".job-title .state")).to_contain_text("succeeded")
    expect(page.get_by_role("img", name=WHOLE)).to_be_visible()
    assert page.evaluate("window.neverReloaded") is True
    page.context.close()


def trains(daemon: RealDaemon, folder: Path) -> int:
    """A job that waits for `until-0` … `until-2` after each hundred steps."""
    resources = {"gpu": 1}
    job = daemon.command(*program(folder, "trains", SURVIVES), str(folder), name="t", resources=resources).id
    daemon.wait_for(job, JobState.RUNNING)
    return job


def go_on(daemon: RealDaemon, job: int, folder: Path, part: int, step: int) -> None:
    (folder / f"until-{part}").touch()
    wait_until(lambda: (daemon.get(f"/v1/jobs/{job}")["progress"] or {}).get("step") == step, f"step {step}")


class Way:
    """To the daemon's port. When it goes dead, what waited for a request is closed; what carries the stream
    of events stays open, and nothing comes through it any more. New connections go through."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._door = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        self._open: list[Link] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def goes_dead(self) -> None:
        for link in self._open:
            link.dead.set()
            if not link.carries_events:
                link.close()

    def close(self) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self._thread.join()
        for link in self._open:
            link.close()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            self._open.append(Link(client, socket.create_connection(("127.0.0.1", self._port))))


class Link:
    """One connection, both ways."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.dead = threading.Event()
        self.carries_events = False
        self._ends = (client, server)
        for source, target in ((client, server), (server, client)):
            threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def close(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        """Until an end closes. What comes after it went dead is read, and lost."""
        try:
            while data := source.recv(65536):
                self.carries_events |= data.startswith(b"GET /v1/events ")
                if not self.dead.is_set():
                    target.sendall(data)
            if not self.dead.is_set():
                target.shutdown(socket.SHUT_WR)
        except OSError:
            return
