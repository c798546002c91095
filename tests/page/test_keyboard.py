"""Without a mouse: everything that can be done on a view is reached by Tab, and seen to be reached."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.daemon.real import wait_until
from tests.page.conftest import Dashboard
from tests.page.scene import VIEWS, show

MARK = """() => {
  for (const node of document.querySelectorAll("[data-stop]")) delete node.dataset.stop;
  const wanted = "a[href], button:not(:disabled), input:not(:disabled), select, summary, [tabindex='0']";
  let count = 0;
  for (const node of document.querySelectorAll(wanted)) {
    if (node.tabIndex < 0 || !node.checkVisibility()) continue;
    node.dataset.stop = ++count;
  }
  return count;
}"""
WHERE = """() => {
  const node = document.activeElement;
  const style = getComputedStyle(node);
  const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  return [node.dataset.stop ?? "", seen, node.outerHTML.slice(0, 120)];
}"""


@pytest.mark.parametrize("view", VIEWS)
def test_tab_reaches_all_that_can_be_done(view: str, tab: Page, dashboard: Dashboard) -> None:
    """Each once, with its outline, and then out of the page again: nothing keeps the keyboard. Where the page
    has changed meanwhile (it is live), once more."""
    show(tab, dashboard, view)
    wait_until(lambda: not left_out(tab), "Tab to reach everything")


def left_out(tab: Page) -> set[int]:
    """Which of the stops, numbered as they stand in the page, Tab does not reach."""
    stops = tab.evaluate(MARK)
    assert stops >= 8  # the head alone has so many
    reached: set[str] = set()
    for _ in range(stops + 20):
        tab.keyboard.press("Tab")
        stop, seen, html = tab.evaluate(WHERE)
        if stop == "" or stop in reached:
            if len(reached) >= stops:
                break
            continue
        assert seen, html
        reached.add(stop)
    return {number for number in range(1, stops + 1) if str(number) not in reached}


def test_a_job_is_found_compared_and_zoomed_into_by_keyboard_alone(tab: Page, dashboard: Dashboard) -> None:
    show(tab, dashboard, "jobs")
    tab.get_by_label("Name or number").focus()
    tab.keyboard.type("TRAIN")
    expect(tab.get_by_role("link", name="broken")).to_have_count(0)
    expect(tab.get_by_label("Name or number")).to_be_focused()
    tab.get_by_label("Compare job 3, trained").focus()
    tab.keyboard.press("Space")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Space")
    tab.get_by_role("button", name="Compare 2 jobs").focus()
    tab.keyboard.press("Enter")
    expect(tab).to_have_url(f"{dashboard.address}/compare?jobs=3,1")
    plot = tab.locator("figure[data-title=loss] .plot")
    expect(plot.locator("canvas")).to_be_visible()
    plot.focus()
    tab.keyboard.press("+")
    expect(tab.get_by_role("button", name="Show all")).to_be_visible()
    tab.keyboard.press("Escape")
    expect(tab.get_by_role("button", name="Show all")).to_have_count(0)


def test_a_lane_tells_its_bars_one_by_one(tab: Page, dashboard: Dashboard) -> None:
    show(tab, dashboard, "gpus")
    tab.locator(".lane svg:has(rect)").first.focus()
    tab.keyboard.press("ArrowLeft")
    expect(tab.locator(".timeline-under")).to_have_text(re.compile(r"^GPU \d: .*\(job \d, attempt 1\), "))
