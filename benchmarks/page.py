"""The web page while much happens: 1,000 jobs, 50 of them running and reporting 20 series each.

In Debian's Chromium without a screen (drawn by the CPU): frames a second while the page is live, what it
takes of memory, what the daemon takes meanwhile, and beside it TensorBoard with the same series, where that
is installed.

Memory is the proportional set size of the browser's processes: what several of them share is divided among
them, so that their sum is what would be free without them. Summed resident sizes, which count what is shared
once for each process, stand beside it, and both for a browser that shows an empty page.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import processes
from benchmarks.figures import Bound, Figure
from benchmarks.peers.tensorboard_page import first_curve
from benchmarks.scene import Scene
from building import page as building
from tests.daemon.real import RealDaemon, request, wait_until
from trainforge.states import JobState

try:
    from playwright.sync_api import Browser, Page, sync_playwright
except ImportError:
    sync_playwright = None  # type: ignore[assignment]

MB = 1e6
PROGRAM = Path(__file__).parent / "programs" / "reports.py"
RUNNING, ALL, SERIES, PAST = 50, 1000, 20, 500
PATIENCE = 120_000.0  # ms
COUNT_FRAMES = """seconds => new Promise(done => {
  let frames = 0;
  const end = performance.now() + 1000 * seconds;
  const count = now => now < end ? (frames++, requestAnimationFrame(count)) : done(frames / seconds);
  requestAnimationFrame(count);
})"""
VIEWS = {
    "overview": ("/", "table.running tbody tr"),
    "one job's 20 curves": ("/jobs/1", ".chart canvas"),
    "eight jobs compared": ("/compare?jobs=1,2,3,4,5,6,7,8", ".chart canvas"),
}


def measure(scene: Scene) -> list[Figure]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None or sync_playwright is None:
        scene.notes.append("chromium or playwright is not installed: the page was not measured")
        return []
    building.build()
    running = scene.times(RUNNING, 4)
    daemon = scene.daemon(8, "--simulate-cpu", str(running), "--web", f"127.0.0.1:{_free_port()}")
    _fill(daemon, running, scene.times(ALL, 20))
    with _browser(chromium) as browser:
        figures = _views(scene, daemon, browser)
    with _browser(chromium) as browser:
        board = first_curve(scene, browser, running, SERIES, PAST)
    return [*_beside(figures, board)]


def _fill(daemon: RealDaemon, running: int, count: int) -> None:
    runs = [sys.executable, str(PROGRAM), str(SERIES), str(PAST)]
    jobs = [
        request(runs, daemon.folder, name=f"run-{number % 7}", resources={"gpu": 0, "cpu": 1})
        for number in range(count)
    ]
    with daemon.client(timeout=120) as client:
        client.submit_all(jobs)
        wait_until(lambda: client.status().jobs.running >= running, "the jobs to run", 120)
        newest = [job.id for job in client.jobs(states=[JobState.RUNNING], limit=running).jobs]
        wait_until(lambda: all(_is_past(daemon, job) for job in newest), "their past", 120)


def _is_past(daemon: RealDaemon, job: int) -> bool:
    progress = daemon.get(f"/v1/jobs/{job}")["progress"]
    return progress is not None and (progress["step"] or 0) >= PAST


def _views(scene: Scene, daemon: RealDaemon, browser: Browser) -> list[Figure]:
    page = browser.new_context(viewport={"width": 1600, "height": 1000}).new_page()
    page.set_default_timeout(PATIENCE)
    empty, blank, empty_resident = _all_memory() / MB, _page_memory() / MB, _all_resident() / MB
    page.goto(daemon.post("/v1/sign-in")["address"])
    address = page.url.rstrip("/")
    figures = []
    for what, (path, mark) in VIEWS.items():
        first = _seconds_to(page, address + path, mark)
        used, began = processes.cpu_seconds(daemon.pid), time.perf_counter()
        frames = float(page.evaluate(COUNT_FRAMES, scene.times(6, 1)))
        core = (processes.cpu_seconds(daemon.pid) - used) / (time.perf_counter() - began)
        figures += [
            Figure(what=f"{what}: until it is there", value=first, unit="s", bound=Bound(limit=1)),
            Figure(what=f"{what}: frames", value=frames, unit="per s", bound=Bound(limit=50, least=True)),
            Figure(what=f"{what}: the daemon", value=100 * core, unit="% of a core", bound=Bound(limit=25)),
            Figure(
                what=f"{what}: memory of the page's process",
                value=_page_memory() / MB,
                unit="MB",
                bound=Bound(limit=200),
                others={"of an empty page": blank},
            ),
            *_of_the_browser(what, empty, empty_resident),
        ]
    memory = processes.resident(daemon.pid) / MB
    return [*figures, Figure(what="the daemon's memory", value=memory, unit="MB", bound=Bound(limit=150))]


def _of_the_browser(what: str, empty: float, empty_resident: float) -> list[Figure]:
    whole = _all_memory() / MB
    return [
        Figure(
            what=f"{what}: memory that it adds to an empty browser",
            value=whole - empty,
            unit="MB",
            bound=Bound(limit=200),
        ),
        Figure(
            what=f"{what}: memory of the whole browser",
            value=whole,
            unit="MB",
            others={"with an empty page": empty},
        ),
        Figure(
            what=f"{what}: resident sizes of the browser's processes, summed",
            value=_all_resident() / MB,
            unit="MB",
            others={"with an empty page": empty_resident},
        ),
    ]


def _seconds_to(page: Page, address: str, mark: str) -> float:
    began = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_selector(mark)
    return time.perf_counter() - began


def _page_memory() -> float:
    """Of the process that draws the page."""
    return max((_proportional(pid) for pid, kind in _browser_processes() if kind == "renderer"), default=0.0)


def _all_memory() -> float:
    return sum(_proportional(pid) for pid, _ in _browser_processes())


def _all_resident() -> float:
    return sum(_rolled_up(pid, "Rss:") for pid, _ in _browser_processes())


def _browser_processes() -> Iterator[tuple[int, str]]:
    """Of the browser that this process started: (pid, type)."""
    for pid in processes.with_children(os.getpid()):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "chrom" in line.split(" ")[0]:
            yield pid, line.partition("--type=")[2].split(" ")[0] or "browser"


def _proportional(pid: int) -> int:
    return _rolled_up(pid, "Pss:")


def _rolled_up(pid: int, what: str) -> int:
    """Bytes in memory. "Pss:": a page that n processes share counts 1/n; "Rss:": it counts whole."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(what):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return 0


def _beside(figures: list[Figure], board: float | None) -> Iterator[Figure]:
    for figure in figures:
        if figure.what == "one job's 20 curves: until it is there":
            yield Figure(
                what=figure.what,
                value=figure.value,
                unit="s",
                bound=figure.bound,
                others={"TensorBoard": board},
            )
        else:
            yield figure


@contextmanager
def _browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"], timeout=PATIENCE
        )
        yield browser
        browser.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
