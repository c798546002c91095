"""Moving about in plots: by mouse in a comparison, with fingers on a phone."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import CDPSession, Locator, Page, expect

from tests.page.conftest import PATIENCE, PHONE, Dashboard
from tests.page.scene import DRAWN, box_of, show

Range = tuple[float, float]
ALL = "Show all"


@pytest.fixture
def compared(dashboard: Dashboard) -> Iterator[Page]:
    page = dashboard.tab()
    show(page, dashboard, "compare")
    expect(page.locator("figure[data-title=loss] canvas")).to_be_visible()
    both = re.compile(r"^loss: 1 trained is .*?, \d{3,} points; 3 trained is .*?, 120 points")
    expect(page.get_by_role("img", name=both)).to_be_visible()
    yield page
    page.context.close()


@pytest.fixture
def phone(dashboard: Dashboard) -> Iterator[Page]:
    page = dashboard.tab(*PHONE, fingers=True)
    show(page, dashboard, "curves")
    expect(page.locator("figure[data-title=loss] canvas")).to_be_visible()
    plot(page).scroll_into_view_if_needed()
    yield page
    page.context.close()


def test_a_comparison_is_zoomed_into_and_moved(compared: Page) -> None:
    """Given two jobs of 4,000 and 120 steps, when a plot is dragged over and then moved, then all plots
    show that part, none leaves its curves, and all of it comes back."""
    drag(compared, 0.5, 0.75)
    first = shown(compared)
    assert first[0] == pytest.approx(2000, abs=120)
    assert first[1] == pytest.approx(3000, abs=120)
    expect(compared.get_by_role("img", name=re.compile(r"^lr: .*; shown from "))).to_be_visible()
    drag(compared, 0.3, 0.6, shift=True)
    second = shown(compared, but=first)
    assert second[0] < first[0] - 100
    assert second[1] - second[0] == pytest.approx(first[1] - first[0], rel=0.02)
    for _ in range(4):
        drag(compared, 0.05, 0.95, shift=True)
    begins = re.compile("shown from 1 to ")  # as the curves do
    expect(loss(compared)).to_have_attribute("aria-label", begins)
    compared.get_by_role("button", name=ALL).click()
    expect(loss(compared)).not_to_have_attribute("aria-label", re.compile("shown from"))


def test_jobs_share_the_points_of_a_plot(compared: Page, dashboard: Dashboard) -> None:
    """Together they are drawn with about as many points as two; who zooms sees every point."""
    with compared.expect_request(lambda request: "/metrics?points=400" in request.url):
        compared.goto(f"{dashboard.address}/compare?jobs=1,2,3,4,5,6")
    points = re.compile(r"^loss: 1 trained is .*?, (3\d\d|400) points")
    expect(compared.get_by_role("img", name=points)).to_be_visible()
    plot = loss(compared)
    for _ in range(4):  # half of it each time: of 4,000 steps 250
        plot.press("+")
    every = re.compile(r"^loss: 1 trained is .*?, 2[5-8]\d points")
    expect(compared.get_by_role("img", name=every)).to_be_visible()


def test_a_key_does_not_wait_for_the_canvas(phone: Page) -> None:
    """Given a plot out of sight, which is not drawn, when a key reaches it, then it zooms."""
    last = phone.locator("figure.chart").last
    expect(last.locator("canvas")).to_have_count(0)
    last.get_by_role("img").evaluate(
        "node => node.dispatchEvent(new KeyboardEvent('keydown', { key: '+', bubbles: true }))"
    )
    expect(phone.get_by_role("button", name=ALL)).to_be_visible()
    first = shown(phone)
    assert first[1] - first[0] == pytest.approx(2000, rel=0.02)


def test_a_comparison_follows_its_jobs(compared: Page, dashboard: Dashboard) -> None:
    """A job that is being compared reports more: its curve grows without a reload."""
    compared.goto(f"{dashboard.address}/compare?jobs=1,4")
    expect(
        compared.get_by_role("img", name=re.compile("^loss: .*4 runs-on is .*, 40 points"))
    ).to_be_visible()


def test_two_fingers_zoom_and_one_moves(phone: Page) -> None:
    fingers = Fingers(phone)
    fingers.drag((0.4, 0.6), (0.2, 0.8))
    expect(phone.get_by_role("button", name=ALL)).to_be_visible()
    first = shown(phone)
    width = first[1] - first[0]
    assert width == pytest.approx(4000 / 3, rel=0.1)  # a third lies between fingers three times as far apart
    fingers.drag((0.8,), (0.3,))
    second = shown(phone, but=first)
    assert second[0] == pytest.approx(first[0] + width / 2, rel=0.1)
    fingers.drag((0.1, 0.9), (0.4, 0.6))
    expect(phone.get_by_role("button", name=ALL)).to_have_count(0)


def test_one_finger_reads_a_plot_that_is_whole(phone: Page) -> None:
    legend = phone.locator("figure[data-title=loss] .legend")
    expect(legend).not_to_contain_text(" at ")
    Fingers(phone).drag((0.3,), (0.5,))
    expect(legend).to_contain_text(" at ")
    expect(phone.get_by_role("button", name=ALL)).to_have_count(0)


def test_a_finger_up_and_down_scrolls_the_page(phone: Page) -> None:
    over = phone.locator("figure[data-title=loss] .u-over")
    assert over.evaluate("node => getComputedStyle(node).touchAction") == "pan-y"


class Fingers:
    """On the plot of the loss, as the browser's own protocol moves them. Places are parts of its width."""

    def __init__(self, page: Page) -> None:
        self._session: CDPSession = page.context.new_cdp_session(page)
        self._box = box_of(page.locator("figure[data-title=loss] .u-over"))

    def drag(self, start: tuple[float, ...], end: tuple[float, ...]) -> None:
        self._send("touchStart", start)
        for part in (0.25, 0.5, 0.75, 1):
            places = tuple(a + (b - a) * part for a, b in zip(start, end, strict=True))
            self._send("touchMove", places)
        self._send("touchEnd", ())

    def _send(self, kind: str, places: tuple[float, ...]) -> None:
        box = self._box
        points = [
            {"x": box["x"] + box["width"] * place, "y": box["y"] + box["height"] / 2, "id": number}
            for number, place in enumerate(places)
        ]
        self._session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def drag(page: Page, start: float, end: float, *, shift: bool = False) -> None:
    """With the mouse over the plot of the loss, from one part of its width to another."""
    box = box_of(page.locator("figure[data-title=loss] .u-over"))
    if shift:
        page.keyboard.down("Shift")
    page.mouse.move(box["x"] + box["width"] * start, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * end, box["y"] + 60, steps=4)
    page.mouse.up()
    if shift:
        page.keyboard.up("Shift")


def plot(page: Page) -> Locator:
    return page.locator("figure[data-title=loss] .plot")


def loss(page: Page) -> Locator:
    return plot(page)


def shown(page: Page, *, but: Range | None = None) -> Range:
    """The steps that the plot of the loss shows, as it says itself; it must be zoomed into. `but` are those
    that it showed before."""
    deadline = time.monotonic() + PATIENCE / 1000
    while True:
        page.evaluate(DRAWN)
        expect(loss(page)).to_have_attribute("aria-label", re.compile("shown from"))
        label = loss(page).get_attribute("aria-label") or ""
        found = re.search(r"shown from ([\d,.−-]+) to ([\d,.]+)$", label)
        assert found is not None
        first, last = (float(text.replace(",", "")) for text in found.groups())
        if (first, last) != but:
            return first, last
        assert time.monotonic() < deadline, f"it still shows {but}"
