"""The training project on the page while two ranks of it train: each element of a dashboard of results that
docs/dashboard.md lists, but for what has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.daemon.real import wait_until
from tests.page import test_elements
from tests.page.conftest import PHONE, Dashboard, complaints
from tests.page.life import epoch, project, submit
from tests.page.scene import sees
from trainforge.states import JobState

pytest.importorskip("torch", reason="torch is not installed")

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]

LONG = 400.0  # s that two epochs may take on a busy machine
NUMBER = r"[\d.,]+(e[+-]?\d+)?"
ELEMENTS = {
    "Job overview: what runs, with its progress": ("/", "table.running", r"digits.*epoch \d+ / 400"),
    "Job overview: loss and accuracy": ("/", "table.running", rf"Loss.*Accuracy.*{NUMBER}.*\d %"),
    "Job overview: time left, time it ran": ("/", "table.running", r"Time left.*Ran for.*(s|min|h)"),
    "Job overview: what waits, and why": (
        "/",
        ".queue",
        r"waits for 2 GPUs: 0 free; job 1 holds GPU 0, 1 \(about .* left\); it starts next, in about \d",
    ),
    "GPU metrics: use": ("/", ".gpu", r"digits.*\d+ %"),
    "GPU metrics: memory": ("/", ".gpu-memory", r"[\d.]+ / \d+ GiB"),
    "GPU metrics: temperature and power": ("/", ".gpu-figures", r"\d+ °C.*\d+ / \d+ W"),
    "GPU metrics: over time": ("/gpus", ".charts", "GPU use.*GPU memory.*Temperature.*Power"),
    "GPU metrics: of the job": ("/jobs/1#system", ".charts", "GPU use.*GPU memory.*Temperature.*Power"),
    "Training curves: loss": ("/jobs/1", "figure[data-title=loss]", rf"loss {NUMBER}.*val_loss {NUMBER}"),
    "Training curves: validation accuracy": (
        "/jobs/1",
        "figure[data-title=accuracy]",
        r"val_accuracy [\d.]+ %",
    ),
    "Training curves: learning rate": ("/jobs/1", "figure[data-title=lr]", NUMBER),
    "Training curves: gradient norm": ("/jobs/1", "figure[data-title=grad_norm]", NUMBER),
    "Training curves: images a second": (
        "/jobs/1",
        "figure[data-title=images_per_second]",
        rf"{NUMBER} images/s",
    ),
    "System metrics: processors and memory": ("/jobs/1#system", ".charts", "CPU.*cores.*Memory.*iB"),
    "System metrics: disk and network": ("/jobs/1#system", ".charts", "read.*written.*received.*sent"),
    "System metrics: where each rank's time goes": (
        "/jobs/1#system",
        ".shares",
        r"rank 0(\d+ %[ ·]*){3}rank 1(\d+ %[ ·]*){3}",
    ),
    "Live: said at the top": ("/", ".connected", "Live"),
}


@pytest.fixture(scope="module")
def dashboard(start_dashboard: Callable[..., Dashboard]) -> Iterator[Dashboard]:
    """1 trains until it is cancelled, and has come to its third epoch; 2 waits for it."""
    made = start_dashboard(2)
    daemon = made.daemon
    project(daemon)
    (trains,) = submit(daemon, "digits", 2, 400)
    daemon.command("true", name="waits", resources={"gpu": 2})
    wait_until(lambda: epoch(daemon, trains) >= 2, "two epochs", LONG)
    yield made
    daemon.tfctl("cancel", "2", str(trains))
    daemon.wait_for(trains, JobState.CANCELLED)


@pytest.mark.parametrize("element", ELEMENTS)
def test_an_element_is_shown_of_a_real_run(element: str, tab: Page, dashboard: Dashboard) -> None:
    sees(tab, dashboard, ELEMENTS[element])
    assert complaints(tab) == []


def test_what_is_listed_is_looked_for() -> None:
    assert set(test_elements.ELEMENTS) - set(ELEMENTS) == {"Job overview: what ended, and how"}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_real_run_fits_a_phone(theme: str, dashboard: Dashboard) -> None:
    page = dashboard.tab(*PHONE, theme=theme)
    for path, place, _ in ELEMENTS.values():
        if page.url != dashboard.address + path:
            page.goto(dashboard.address + path)
        expect(page.locator(place).first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    assert complaints(page) == []
    page.context.close()
