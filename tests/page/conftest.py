"""Chromium against the real daemon. Everything is per module: while Playwright is there, its event loop is
too, and tests that have one of their own must not meet it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from building import page as building
from tests.daemon.real import RealDaemon, wait_until
from tests.page.scene import filled
from tests.support import free_port

PATIENCE = 60_000.0  # ms: only bounds the waiting of a test that fails
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDE, PHONE = (1600, 1000), (390, 844)


class Dashboard:
    """A daemon with its page, and tabs in which somebody is signed in."""

    def __init__(self, daemon: RealDaemon, address: str, browser: Browser) -> None:
        self.daemon = daemon
        self.address = address
        self._browser = browser

    def tab(
        self,
        width: int = WIDE[0],
        height: int = WIDE[1],
        theme: str = "light",
        *,
        fingers: bool = False,
        at: str = "",
    ) -> Page:
        """Signed in, as `tfctl dashboard` does it; `at` another address that leads to the daemon. What the
        page complains of is in `complaints`."""
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if theme == "dark" else "light",
            has_touch=fingers,
            is_mobile=fingers,
        )
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints(page).append(str(error)))
        page.on("console", lambda word: complaints(page).append(word.text) if word.type == "error" else None)
        signing_in = self.daemon.post("/v1/sign-in")["address"]
        page.goto(signing_in.replace(self.address, at or self.address))
        expect(page.get_by_text("Live", exact=True)).to_be_visible()
        return page


_COMPLAINTS: dict[int, list[str]] = {}


def complaints(page: Page) -> list[str]:
    """Errors that scripts of the page raised or wrote, and what its security policy refused."""
    return _COMPLAINTS.setdefault(id(page), [])


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (sh tests/prepare)")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE
        )
        yield started
        started.close()


@pytest.fixture(scope="module")
def start_dashboard(chromium: Browser) -> Iterator[Callable[..., Dashboard]]:
    """Starts daemons with a page, each in a folder of its own. Its port stays the same over a restart, which
    an open page has to find again."""
    building.build()
    daemons: list[RealDaemon] = []

    def start(gpus: int = 2, *options: str) -> Dashboard:
        folder = Path(tempfile.mkdtemp(prefix="tf-"))
        daemons.append(RealDaemon(folder, gpus, "--web", f"127.0.0.1:{free_port()}", *options))
        daemon = daemons[-1].start()
        address = wait_until(lambda: daemon.get("/v1/status")["web"], "the web port")
        return Dashboard(daemon, f"http://{address.rpartition('/')[2]}", chromium)

    yield start
    for daemon in daemons:
        daemon.close()
        shutil.rmtree(daemon.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def dashboard(start_dashboard: Callable[..., Dashboard]) -> Dashboard:
    """With jobs of each kind, unless a module has its own."""
    return filled(start_dashboard(2))


@pytest.fixture(scope="module")
def tab(dashboard: Dashboard) -> Page:
    return dashboard.tab()
