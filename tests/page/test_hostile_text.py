"""What jobs and people write is text on the page, whatever it looks like: in every view, at every width."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import structs
from playwright.sync_api import Page, expect

from tests.daemon.real import request
from tests.page.conftest import PHONE, WIDE, Dashboard, complaints
from tests.page.programs import program

TAG = "<img src=x onerror=window.hurt=1>"
LINK = "javascript:window.hurt=1"
REVERSED = "gpj.\u202eexe.tac"
LONG = "W" * 400
HOSTILE = (TAG, LINK, '"><script>window.hurt=1</script>', REVERSED, LONG)
NAME = "N" * 63  # the longest

SPEAKS = f"""
import trainforge
hostile = {HOSTILE!r}
for step in range(1, 40):
    trainforge.report(step=step, loss=1 / step, **{{text[:100]: step for text in hostile}})
for text in hostile:
    print(text, flush=True)
with trainforge.phase({TAG!r}):
    raise ValueError(" ".join(hostile))
"""

VIEWS = {
    "overview": ("/", TAG),
    "jobs": ("/jobs", TAG),
    "jobs sought": ("/jobs?name=<img src=x onerror=window.hurt=1>", "No job is like that"),
    "curves": ("/jobs/1#curves", TAG),
    "system": ("/jobs/1#system", "CPU"),
    "log": ("/jobs/1#log", TAG),
    "events": ("/jobs/1#events", TAG),
    "incident": ("/jobs/1", TAG),
    "first file": ("/jobs/1#file", "This is the first run of"),
    "file": ("/jobs/2#file", "environment.env.SAYS"),
    "compare": ("/compare?jobs=1,2", TAG),
    "compare nothing": ("/compare?jobs=<img src=x onerror=window.hurt=1>", "Add jobs by their numbers"),
    "gpus": ("/gpus", TAG),
}


@pytest.fixture(scope="module")
def dashboard(start_dashboard: Callable[..., Dashboard]) -> Dashboard:
    """1 and 2 said it all and failed, 3 is held, and a GPU is drained for such a reason."""
    made = start_dashboard(2)
    daemon = made.daemon
    command = program(daemon.folder, "speaks", SPEAKS)
    for says, hold in ((TAG, False), (LONG, False), (TAG, True)):
        asked = request(
            command,
            daemon.folder,
            project={"name": NAME, "description": " ".join(HOSTILE)},
            environment={"env": {"SAYS": says, "AND": " ".join(HOSTILE)}},
            resources={"gpu": 1},
            recovery={"max_retries": 0},
            hold=hold,
        )
        with daemon.client() as client:
            client.submit(structs.replace(asked, varied=("environment.env.SAYS",)))
    for job in (1, 2):
        daemon.wait_for(job)
    daemon.tfctl("drain", "1", "--reason", " ".join(HOSTILE))
    return made


@pytest.fixture(scope="module")
def phone(dashboard: Dashboard) -> Page:
    return dashboard.tab(*PHONE)


@pytest.mark.parametrize("view", VIEWS)
def test_hostile_text_is_text(view: str, tab: Page, phone: Page, dashboard: Dashboard) -> None:
    path, text = VIEWS[view]
    for page, width in ((tab, WIDE[0]), (phone, PHONE[0])):
        complaints(page).clear()
        page.goto(dashboard.address + path)
        expect(page.get_by_text(text).first).to_be_attached()
        expect(page.get_by_text("Live", exact=True)).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert_harmless(page)


def test_hostile_text_is_sought_in_a_log(tab: Page, dashboard: Dashboard) -> None:
    complaints(tab).clear()
    tab.goto(f"{dashboard.address}/jobs/1#log")
    tab.get_by_label("Search").fill(TAG)
    expect(tab.locator("mark", has_text=TAG).first).to_be_visible()
    assert_harmless(tab)


def test_a_question_about_a_hostile_reason_is_text(tab: Page, dashboard: Dashboard) -> None:
    complaints(tab).clear()
    tab.goto(f"{dashboard.address}/gpus")
    tab.get_by_role("article", name="GPU 1").get_by_role("button", name="Offer again…").click()
    expect(tab.get_by_role("dialog")).to_contain_text(TAG)
    box = tab.get_by_role("dialog").bounding_box()
    assert box is not None
    assert 0 < box["x"] < box["x"] + box["width"] < WIDE[0]
    assert_harmless(tab)


def assert_harmless(page: Page) -> None:
    assert page.evaluate("window.hurt") is None
    assert page.locator("img, main script, iframe, [onerror]").count() == 0
    assert page.locator("a[href^='javascript:']").count() == 0
    assert complaints(page) == []
