"""A daemon that has jobs of each kind, and every view of its page."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from playwright.sync_api import FloatRect, Locator, Page, expect

from tests.daemon.real import DEADLINE
from tests.page.programs import FAILS, TRAINS, program
from trainforge.states import JobState

if TYPE_CHECKING:
    from tests.page.conftest import Dashboard

VIEWS = {
    "overview": ("/", "Queue"),
    "jobs": ("/jobs", "trained"),
    "curves": ("/jobs/1", "val_accuracy"),
    "system": ("/jobs/1#system", "Where each rank's time goes"),
    "log": ("/jobs/1#log", "epoch 4 of 4"),
    "events": ("/jobs/1#events", "attempt 1 started"),
    "file": ("/jobs/1#file", "Checkpoints"),
    "incident": ("/jobs/2", "ValueError: labels"),
    "compare": ("/compare?jobs=1,3", "Last and best"),
    "gpus": ("/gpus", "GPU 1"),
    "waits": ("/jobs/5#incident", "No attempt has been made yet"),
    "nothing found": ("/jobs?name=like-no-other", "No job is like that"),
    "nothing compared": ("/compare", "Add jobs by their numbers"),
}

"""name → (address, a text by which it is known to be there)"""


def filled(made: Dashboard) -> Dashboard:
    """1 trained, 2 failed, 3 trained, 4 runs, 5 waits, 6 is held."""
    daemon, folder = made.daemon, made.daemon.folder
    trains = program(folder, "trains", TRAINS)
    daemon.command(*trains, "4", "1000", name="trained", resources={"gpu": 1})
    daemon.command(*program(folder, "fails", FAILS), name="broken")
    daemon.command(*trains, "3", "40", name="trained", schedule={"priority": 1})
    for job in (1, 2, 3):
        daemon.wait_for(job)
    daemon.command(*trains, "2", "20", str(folder / "done"), name="runs-on", resources={"gpu": 1})
    daemon.wait_for(4, JobState.RUNNING)
    daemon.command("true", name="waits", resources={"gpu": 2})
    daemon.command("true", name="kept", hold=True)
    return made


DRAWN = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
"""What the mouse or a finger changed is there after two pictures."""


def box_of(place: Locator) -> FloatRect:
    """Where it is, once it is in sight and stays there: what stands above it may still come."""
    place.scroll_into_view_if_needed()
    before, deadline = None, time.monotonic() + DEADLINE
    while (box := place.bounding_box()) is None or box != before:
        assert time.monotonic() < deadline, f"it does not stay where it is: {box}"
        before = box
        place.page.evaluate(DRAWN)
    return box


def sees(page: Page, dashboard: Dashboard, element: tuple[str, str, str]) -> None:
    """The element: the path of a view, the selector of a place in it, the pattern of a text there."""
    path, place, text = element
    if page.url != dashboard.address + path:
        page.goto(dashboard.address + path)
    expect(page.locator(place).first).to_have_text(re.compile(text, re.DOTALL))


def show(page: Page, dashboard: Dashboard, view: str) -> None:
    path, word = VIEWS[view]
    page.goto(dashboard.address + path)
    expect(page.get_by_text(word).first).to_be_attached()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
