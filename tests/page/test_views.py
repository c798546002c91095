"""Every view, as somebody sees it who has signed in: wide and on a phone, light and dark, without a mouse."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.daemon.real import wait_until
from tests.page.conftest import PHONE, WIDE, Dashboard, complaints
from tests.page.scene import DRAWN, VIEWS, box_of, show

SIGN_OUT = """() => fetch("/v1/sign-out", {
  method: "POST", headers: { "Content-Type": "application/json" }, body: "{}",
}).then(answer => answer.status)"""
LOOKS = 10  # at a view that is not yet as it should be


@pytest.fixture(scope="module")
def phone(dashboard: Dashboard) -> Page:
    return dashboard.tab(*PHONE, theme="dark")


@pytest.fixture(scope="module")
def dark(dashboard: Dashboard) -> Page:
    return dashboard.tab(theme="dark")


@pytest.fixture(scope="module")
def light_phone(dashboard: Dashboard) -> Page:
    return dashboard.tab(*PHONE)


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_whole_and_can_be_read_by_everybody(view: str, tab: Page, dashboard: Dashboard) -> None:
    complaints(tab).clear()
    show(tab, dashboard, view)
    assert findings(tab) == []
    assert complaints(tab) == []


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_fits_a_phone_in_the_dark(view: str, phone: Page, dashboard: Dashboard) -> None:
    complaints(phone).clear()
    show(phone, dashboard, view)
    fits(phone)
    assert findings(phone) == []
    assert complaints(phone) == []


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_whole_in_the_other_theme(
    view: str, dark: Page, light_phone: Page, dashboard: Dashboard
) -> None:
    for page in (dark, light_phone):
        show(page, dashboard, view)
        assert findings(page) == []
    fits(light_phone)


def fits(page: Page) -> None:
    wide = "document.documentElement.scrollWidth"
    wait_until(lambda: page.evaluate(wide) <= PHONE[0], "the page to be no wider than a phone")


def findings(page: Page) -> list[str]:
    """What axe finds against the page. What is only there while something comes or goes (a colour half way
    to another, say) is none: it is looked at again."""
    for _ in range(LOOKS):
        found = Axe().run(page).response["violations"]
        if not found:
            return []
        page.evaluate(DRAWN)
    return [
        f"{one['id']}: {node['html'][:200]} {node['failureSummary']}"
        for one in found
        for node in one["nodes"]
    ]


def test_the_overview_says_who_has_what_and_why_the_rest_waits(tab: Page, dashboard: Dashboard) -> None:
    show(tab, dashboard, "overview")
    expect(tab.get_by_role("article", name="GPU").filter(has_text="runs-on")).to_be_visible()
    row = tab.get_by_role("row").filter(has_text="runs-on")
    expect(row).to_contain_text("epoch 2 / 2")
    waiting = tab.get_by_role("listitem").filter(has_text="waits for 2 GPUs")
    expect(waiting).to_contain_text("job 4 holds GPU")


def test_only_what_is_used_counts_as_in_use(tab: Page, dashboard: Dashboard) -> None:
    """Given a job on one of two GPUs, when the other is drained, then it is kept back and not in use."""
    show(tab, dashboard, "overview")
    head = tab.locator(".headline")
    expect(head).to_contain_text("1 / 2 GPUs in use")
    (idle,) = (str(gpu["index"]) for gpu in dashboard.daemon.get("/v1/gpus")["gpus"] if gpu["job"] is None)
    dashboard.daemon.tfctl("drain", idle)
    expect(head).to_contain_text("1 GPU kept back")
    expect(head).to_contain_text("1 / 2 GPUs in use")
    dashboard.daemon.tfctl("undrain", idle)
    expect(head).not_to_contain_text("kept back")


def test_why_tells_what_was_done_about_each_end(tab: Page, dashboard: Dashboard) -> None:
    show(tab, dashboard, "incident")
    done = "not started again: a command is not run twice unless recovery.max_retries allows it"
    expect(tab.locator("table.tried .followed")).to_have_text(done)


def test_curves_zoom_move_and_change_their_axis(tab: Page, dashboard: Dashboard) -> None:
    show(tab, dashboard, "curves")
    expect(tab.locator("figure[data-title=loss] canvas")).to_be_visible()
    plot = tab.get_by_role("img", name=re.compile("^loss: loss is"))
    plot.focus()
    plot.press("+")
    expect(tab.get_by_role("button", name="Show all")).to_be_visible()
    plot.press("ArrowRight")
    plot.press("0")
    expect(tab.get_by_role("button", name="Show all")).to_have_count(0)
    box = box_of(plot)
    tab.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 60)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 60, steps=4)
    tab.mouse.up()
    expect(tab.get_by_role("button", name="Show all")).to_be_visible()
    tab.get_by_role("button", name="Epoch").click()
    expect(tab.get_by_role("button", name="Epoch")).to_have_attribute("aria-pressed", "true")
    tab.get_by_label("Logarithmic").check()
    expect(plot).to_be_visible()


def test_a_plot_that_is_zoomed_into_shows_every_point(tab: Page, dashboard: Dashboard) -> None:
    """Of 4,000 points the whole curve shows those that it has room for, a quarter of it all of its own."""
    show(tab, dashboard, "curves")
    expect(tab.locator("figure[data-title=loss] canvas")).to_be_visible()
    plot = tab.get_by_role("img", name=re.compile("^loss: loss is"))
    plot.press("+")
    plot.press("+")
    exact = re.compile(r"^loss: loss is .*between .*, (99|100|101)\d points; val_loss")
    expect(tab.get_by_role("img", name=exact)).to_be_visible()
    plot.press("0")
    expect(tab.get_by_role("img", name=exact)).to_have_count(0)


def test_a_value_that_is_no_number_is_named(tab: Page, dashboard: Dashboard) -> None:
    tab.goto(f"{dashboard.address}/jobs/2#curves")
    expect(tab.locator("figure[data-title=loss] figcaption")).to_contain_text("NaN")


def test_text_of_a_job_is_text(tab: Page, dashboard: Dashboard) -> None:
    show(tab, dashboard, "incident")
    expect(tab.get_by_text("<img src=x onerror=alert(1)>").first).to_be_visible()
    show(tab, dashboard, "log")
    expect(tab.get_by_text("epoch 4 of 4 <b>not bold</b>")).to_be_visible()
    assert tab.locator("main b", has_text="not bold").count() == 0


def test_what_a_job_sends_and_receives_is_drawn_and_explained(tab: Page, dashboard: Dashboard) -> None:
    tab.goto(dashboard.address + "/jobs/4#system")
    expect(tab.locator("figure[data-title='Network']")).to_contain_text("received")
    expect(tab.get_by_text("what they send each other on this machine included")).to_be_visible()


def test_a_job_that_has_not_started_says_what_is_to_come(tab: Page, dashboard: Dashboard) -> None:
    """Given a job that waits, then each of its parts says so in words, and none draws empty plots."""
    for part, words in (
        ("curves", "The job has not started."),
        ("system", "Nothing was measured yet"),
        ("log", "The job has not started: its output will be here."),
        ("incident", "No attempt has been made yet."),
        ("file", "Nothing was saved yet."),
    ):
        tab.goto(f"{dashboard.address}/jobs/6#{part}")
        expect(tab.get_by_text(words)).to_be_visible()
        expect(tab.locator("figure")).to_have_count(0)


def test_the_log_is_searched_as_a_whole(tab: Page, dashboard: Dashboard) -> None:
    show(tab, dashboard, "log")
    tab.get_by_label("Search").fill("epoch 3")
    expect(tab.get_by_text("1 line with “epoch 3”")).to_be_visible()
    tab.get_by_label("Search").fill("nothing like it")
    expect(tab.get_by_text("No line contains")).to_be_visible()


def test_jobs_are_chosen_and_compared(tab: Page, dashboard: Dashboard) -> None:
    show(tab, dashboard, "jobs")
    tab.get_by_label("Compare job 1, trained").check()
    tab.get_by_label("Compare job 3, trained").check()
    tab.get_by_role("button", name="Compare 2 jobs").click()
    expect(tab.get_by_role("group", name="Settings that differ")).to_contain_text("schedule.priority")
    expect(tab.get_by_role("img", name=re.compile("^val_accuracy:"))).to_be_visible()
    tab.get_by_role("button", name="Leave job 3 out").click()
    expect(tab).to_have_url(f"{dashboard.address}/compare?jobs=1")


def test_what_changes_something_asks_first(tab: Page, dashboard: Dashboard) -> None:
    tab.goto(f"{dashboard.address}/jobs/5")
    tab.get_by_role("button", name="Hold…").click()
    tab.get_by_role("button", name="Back").click()
    assert dashboard.daemon.get("/v1/jobs/5")["state"] == "queued"
    tab.get_by_role("button", name="Hold…").click()
    tab.get_by_role("button", name="Hold the job").click()
    expect(tab.locator(".job-title .state")).to_contain_text("held")
    tab.get_by_role("button", name="Priority…").click()
    tab.get_by_label("Priority", exact=True).fill("500")
    tab.get_by_role("button", name="Set").click()
    expect(tab.get_by_role("dialog")).to_be_visible()  # the browser refuses what is out of bounds
    tab.get_by_label("Priority", exact=True).fill("7")
    tab.get_by_role("button", name="Set").click()
    expect(tab.get_by_text("Job 5 has priority 7")).to_be_visible()
    tab.get_by_role("button", name="Release…").click()
    tab.get_by_role("button", name="Release the job").click()
    expect(tab.locator(".job-title .state")).to_contain_text("queued")
    tab.get_by_role("button", name="Cancel…").click()
    tab.get_by_role("button", name="Cancel the job").click()
    expect(tab.locator(".job-title .state")).to_contain_text("cancelled")
    tab.get_by_role("button", name="Retry…").click()
    tab.get_by_role("button", name="Retry", exact=True).click()
    expect(tab).to_have_url(re.compile(r"/jobs/7$"))
    dashboard.daemon.tfctl("cancel", "7")


def test_a_gpu_is_drained_and_offered_again(tab: Page, dashboard: Dashboard) -> None:
    show(tab, dashboard, "gpus")
    card = tab.get_by_role("article", name="GPU 1")
    card.get_by_role("button", name="Drain…").click()
    tab.get_by_role("dialog").get_by_role("button", name="Drain", exact=True).click()
    expect(tab.get_by_text("GPU 1 is drained")).to_be_visible()
    card.get_by_role("button", name="Offer again…").click()
    tab.get_by_role("dialog").get_by_role("button", name="Offer again").click()
    expect(card.get_by_role("button", name="Drain…")).to_be_visible()


def test_the_keyboard_reaches_everything(tab: Page, dashboard: Dashboard) -> None:
    show(tab, dashboard, "curves")
    tab.keyboard.press("Tab")
    expect(tab.get_by_role("link", name="Skip to the content")).to_be_focused()
    tab.keyboard.press("Enter")
    expect(tab.locator("#main")).to_be_focused()
    tab.get_by_role("tab", name="Curves").focus()
    tab.keyboard.press("ArrowRight")
    expect(tab.get_by_role("tab", name="System")).to_be_focused()
    expect(tab.get_by_role("tab", name="System")).to_have_attribute("aria-selected", "true")


def test_the_theme_is_the_system_s_unless_chosen(dashboard: Dashboard) -> None:
    page = dashboard.tab(*WIDE, theme="dark")
    html = page.locator("html")
    expect(html).to_have_attribute("data-theme", "dark")
    page.get_by_label("Theme").select_option("light")
    expect(html).to_have_attribute("data-theme", "light")
    page.reload()
    expect(html).to_have_attribute("data-theme", "light")
    page.get_by_label("Theme").select_option("system")
    expect(html).to_have_attribute("data-theme", "dark")
    page.context.close()


def test_what_is_not_there_is_said(tab: Page, dashboard: Dashboard) -> None:
    tab.goto(f"{dashboard.address}/jobs/99")
    expect(tab.get_by_role("heading", name="There is no job 99")).to_be_visible()
    tab.goto(f"{dashboard.address}/somewhere")
    expect(tab.get_by_role("heading", name="There is nothing here")).to_be_visible()


def test_signing_out_ends_the_session(dashboard: Dashboard, tmp_path: Path) -> None:
    page = dashboard.tab()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Not signed in")).to_be_visible()
    page.context.close()


@pytest.mark.parametrize("view", ["overview", "curves", "gpus"])
def test_a_page_that_is_signed_out_asks_nothing_more(view: str, dashboard: Dashboard) -> None:
    """Given a view whose session ends in another tab, then it says how to sign in, and is silent."""
    page = dashboard.tab()
    page.clock.install()
    show(page, dashboard, view)
    assert page.evaluate(SIGN_OUT) == 204
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    expect(page.get_by_text("tfctl dashboard")).to_be_visible()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.run_for(120_000)
    page.evaluate(DRAWN)
    assert asked == []
    page.context.close()
