"""Whoever opens a view sees it settle once: nothing that is there is pushed away by what comes later."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.page.conftest import PHONE, Dashboard
from tests.page.scene import VIEWS, show

MOST = 0.05  # by the browser's measure, of which 0.1 passes for good
WATCH = """
window.shifted = 0;
new PerformanceObserver(list => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""
DRAWN = """() => !document.querySelector(".loading") && [...document.querySelectorAll(".plot")].every(plot =>
  plot.getBoundingClientRect().top > innerHeight || plot.querySelector("canvas"))"""


@pytest.fixture(scope="module")
def watched(dashboard: Dashboard) -> Page:
    page = dashboard.tab()
    page.add_init_script(WATCH)
    return page


@pytest.fixture(scope="module")
def watched_phone(dashboard: Dashboard) -> Page:
    page = dashboard.tab(*PHONE)
    page.add_init_script(WATCH)
    return page


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_is_pushed_away(view: str, watched: Page, watched_phone: Page, dashboard: Dashboard) -> None:
    for page in (watched, watched_phone):
        show(page, dashboard, view)
        page.wait_for_function(DRAWN)
        assert page.evaluate("window.shifted") <= MOST


def test_all_plots_are_read_at_the_same_place(tab: Page, dashboard: Dashboard) -> None:
    show(tab, dashboard, "curves")
    plot = tab.get_by_role("img", name=re.compile("^loss: loss is"))
    expect(plot.locator("canvas")).to_be_visible()
    other = tab.locator("figure[data-title=lr]")
    expect(other.locator("canvas")).to_be_visible()
    expect(other.locator("figcaption")).not_to_contain_text(" at ")
    plot.hover()
    texts = []
    for figure in (tab.locator("figure[data-title=loss]"), other):
        read = figure.locator("figcaption b").first
        expect(read).to_contain_text(re.compile(r" at [\d,.]+$"))
        texts.append(read.text_content() or "")
    here, there = (float(text.rpartition(" at ")[2].replace(",", "")) for text in texts)
    assert abs(here - there) < 40, "each at its nearest of 4,000 steps"
    tab.get_by_role("heading", name="loss").hover()
    expect(other.locator("figcaption")).not_to_contain_text(" at ")


def test_an_outlier_is_cut_off_and_told_of(tab: Page, dashboard: Dashboard) -> None:
    """The plot of `spike`, of which one value is a thousand times the others, is another without it; one that
    has no outlier stays as it is."""
    show(tab, dashboard, "overview")
    tab.goto(f"{dashboard.address}/jobs/2#curves")
    drawn = {name: tab.locator(f"figure[data-title={name}] canvas") for name in ("spike", "steady")}
    for canvas in drawn.values():
        expect(canvas).to_be_visible()
    look = "canvas => canvas.toDataURL()"
    before = {name: canvas.evaluate(look) for name, canvas in drawn.items()}
    box = tab.get_by_label("Cut outliers")
    expect(box).to_be_checked()
    box.uncheck()
    tab.wait_for_function(
        "before => document.querySelector('figure[data-title=spike] canvas').toDataURL() !== before",
        arg=before["spike"],
    )
    expect(drawn["steady"]).to_be_visible()
    tab.wait_for_function(
        "before => document.querySelector('figure[data-title=steady] canvas').toDataURL() === before",
        arg=before["steady"],
    )
