"""Pictures of every view, in both themes, wide and on a phone, with jobs as people have them.

    python -m tests.page.pictures                        all of docs/screenshots anew; about ten minutes
    python -m tests.page.pictures --kept FOLDER compare  this view, of jobs that FOLDER keeps from then on

The jobs are those of `tests.page.life`. A picture is of the whole page, up to where it is too tall to be
looked at.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from building import page as building
from tests.page.conftest import CHROMIUM, PATIENCE, PHONE, WIDE, Dashboard, complaints
from tests.page.life import GPUS, Life, daemon_in, lived

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
TALLEST = 2_000  # px of a picture
QUALITY = 45  # of WebP: text stays sharp
DRAWN = """() => [...document.querySelectorAll(".plot")].every(plot => {
  const { top, bottom } = plot.getBoundingClientRect();
  return bottom < 0 || top > innerHeight || plot.querySelector("canvas");
})"""
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
Prepare = Callable[[Page], object]


class View:
    """`path` may name jobs of the life: `{digits}`. `word`: a text by which it is known to be there."""

    def __init__(self, path: str, word: str, prepare: Prepare = lambda page: None) -> None:
        self.path = path
        self.word = word
        self.prepare = prepare


def _cancel(page: Page) -> None:
    page.get_by_role("button", name="Cancel…").click()


def _search(page: Page) -> None:
    page.get_by_label("Search").fill("accuracy 9")
    expect(page.get_by_text(re.compile("lines? with"))).to_be_visible()


def _zoom(page: Page) -> None:
    plot = page.get_by_role("img", name=re.compile("^loss: loss is"))
    plot.press("+")
    plot.press("+")
    page.get_by_role("button", name="Epoch").click()


def _sign_out(page: Page) -> None:
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()


VIEWS = {
    "overview": View("/", "nightly-evaluation"),
    "jobs": View("/jobs", "digits"),
    "curves": View("/jobs/{digits}", "val_accuracy"),
    "curves-live": View("/jobs/{runs}", "val_accuracy"),
    "system": View("/jobs/{runs}#system", "Where each rank's time goes"),
    "log": View("/jobs/{digits}#log", "epoch"),
    "log-search": View("/jobs/{digits}#log", "epoch", _search),
    "events": View("/jobs/{digits}#events", "attempt 1 started"),
    "why-failed": View("/jobs/{diverges}", "What to do"),
    "why-restarted": View("/jobs/{digits}#incident", "What was tried"),
    "why-waits": View("/jobs/{waits}#incident", "No attempt has been made yet"),
    "job-file": View("/jobs/{swept}#file", "Checkpoints"),
    "compare": View("/compare?jobs={sweep}", "Last and best"),
    "gpus": View("/gpus", "GPU 1"),
    "question": View("/jobs/{runs}#system", "Where each rank's time goes", _cancel),
    "nothing-found": View("/jobs?name=like-no-other", "No job is like that"),
    "nothing-compared": View("/compare", "Add jobs by their numbers"),
    "signed-out": View("/", "nightly-evaluation", _sign_out),
}
EMPTY = {
    "first-day": View("/", "Nothing runs"),
    "first-day-jobs": View("/jobs", "There is no job yet"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("views", nargs="*", metavar="VIEW", help=f"of {', '.join([*VIEWS, *EMPTY])}")
    parser.add_argument("--kept", type=Path, help="a folder whose jobs are used; made where there is none")
    parser.add_argument("--into", type=Path, default=FOLDER)
    args = parser.parse_args()
    building.build()
    expect.set_options(timeout=PATIENCE)
    with ExitStack() as stack:
        folder = args.kept or Path(tempfile.mkdtemp(prefix="tf-pictures-"))
        if args.kept is None:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE
        )
        stack.callback(browser.close)
        for views, part, live in ((EMPTY, "empty", lambda daemon: Life(jobs={})), (VIEWS, "lived", lived)):
            chosen = {name: view for name, view in views.items() if not args.views or name in args.views}
            if chosen:
                daemon, address = daemon_in(folder / part, GPUS)
                stack.callback(daemon.close)
                _take(Dashboard(daemon, address, browser), chosen, live(daemon), args.into)


def _take(dashboard: Dashboard, views: dict[str, View], life: Life, into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    for name, view in views.items():
        for width, height in (WIDE, PHONE):
            page = dashboard.tab(width, height, fingers=width == PHONE[0])
            page.goto(dashboard.address + view.path.format(**life.jobs))
            expect(page.get_by_text(view.word).first).to_be_attached()
            expect(page.get_by_text("Live", exact=True)).to_be_visible()
            _whole(page, width, height)
            view.prepare(page)
            for theme in THEMES:
                page.emulate_media(color_scheme=theme)
                _write(_picture(page), into / f"{name}-{width}-{theme}.webp")
            if view.prepare is not _sign_out:  # whoever is signed out is refused, and the browser says so
                assert complaints(page) == [], (name, complaints(page))
            page.context.close()
        print(name, flush=True)


def _whole(page: Page, width: int, height: int) -> None:
    """With as much in sight as the picture shows: plots are drawn while they are."""
    page.wait_for_function("() => !document.querySelector('.loading')")
    for _ in range(2):  # what is in sight now may be taller than its place was
        tall = page.evaluate("document.querySelector('main').getBoundingClientRect().bottom")
        page.set_viewport_size({"width": width, "height": min(max(round(tall), height * 3 // 4), TALLEST)})
        page.wait_for_function(DRAWN)


def _picture(page: Page) -> bytes:
    page.wait_for_function(DRAWN)
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.screenshot(animations="disabled")


def _write(picture: bytes, path: Path) -> None:
    Image.open(io.BytesIO(picture)).convert("RGB").save(path, "WEBP", quality=QUALITY, method=6)


if __name__ == "__main__":
    main()
