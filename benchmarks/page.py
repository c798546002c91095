"""The web page while much happens: 1,000 jobs, 50 of them running and reporting 20 series each.

In Debian's Chromium without a screen (drawn by the CPU): frames a second while the page is live, what it
takes of memory, what the daemon takes meanwhile, and beside it TensorBoard with the same series, where that
is installed. The whole browser's memory also in Chromium's headless shell, where that is installed: the same
engine without windows, address bar and what else a desktop's browser has open.

Memory is what the browser's processes have taken for themselves, what several of them share counted once. The
files of its program, which the system drops from memory where it needs room, stand in a line of their own.
"""

from __future__ import annotations

import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks import processes
from benchmarks.browser import Browser, Memory
from benchmarks.figures import Bound, Figure
from benchmarks.peers import tensorboard_page
from benchmarks.scene import Scene
from building import page as building
from tests.daemon.real import RealDaemon, request, wait_until
from trainforge.states import JobState

MB = 1e6
PROGRAM = Path(__file__).parent / "programs" / "reports.py"
RUNNING, ALL, SERIES, PAST = 50, 1000, 20, 500
CHROMIUM = ("chromium", "chromium-browser")
SHELL = ("chromium-headless-shell", "chrome-headless-shell")
MEMORY = Bound(limit=200)  # MB
SETTLED = 3.0  # s
COUNT_FRAMES = """(seconds => new Promise(done => {
  let frames = 0;
  const end = performance.now() + 1000 * seconds;
  const count = now => now < end ? (frames++, requestAnimationFrame(count)) : done(frames / seconds);
  requestAnimationFrame(count);
}))"""
OVERVIEW = ("/", "table.running tbody tr")
VIEWS = {
    "overview": OVERVIEW,
    "one job's 20 curves": ("/jobs/1", ".chart canvas"),
    "eight jobs compared": ("/compare?jobs=1,2,3,4,5,6,7,8", ".chart canvas"),
}


def measure(scene: Scene) -> list[Figure]:
    chromium, shell = _installed(CHROMIUM), _installed(SHELL)
    if chromium is None:
        scene.notes.append("chromium is not installed: the page was not measured")
        return []
    building.build()
    running = scene.times(RUNNING, 4)
    daemon = scene.daemon(8, "--simulate-cpu", str(running), "--web", f"127.0.0.1:{_free_port()}")
    _fill(daemon, running, scene.times(ALL, 20))
    with Browser(chromium, scene.folder / "chromium") as browser:
        figures = list(_views(scene, daemon, browser))
    memory = processes.resident(daemon.pid) / MB
    figures.append(Figure(what="the daemon's memory", value=memory, unit="MB", bound=Bound(limit=150)))
    if shell is None:
        scene.notes.append("chromium-headless-shell is not installed: the bound of the browser was not tried")
    else:
        with Browser(shell, scene.folder / "shell") as browser:
            figures += _memories(daemon, browser)
    with Browser(chromium, scene.folder / "board-chromium") as browser:
        board = tensorboard_page.first_curve(scene, browser, running, SERIES, PAST)
    return [_beside(figure, board) for figure in figures]


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


def _views(scene: Scene, daemon: RealDaemon, browser: Browser) -> Iterator[Figure]:
    empty = _empty(browser)
    address = _sign_in(daemon, browser)
    for what, (path, mark) in VIEWS.items():
        first = browser.open(address + path, mark)
        used, began = processes.cpu_seconds(daemon.pid), time.perf_counter()
        frames = float(browser.evaluate(f"{COUNT_FRAMES}({scene.times(6, 1)})"))
        core = (processes.cpu_seconds(daemon.pid) - used) / (time.perf_counter() - began)
        memory = browser.memory()
        yield Figure(what=f"{what}: until it is there", value=first, unit="s", bound=Bound(limit=1))
        yield Figure(what=f"{what}: frames", value=frames, unit="per s", bound=Bound(limit=50, least=True))
        yield Figure(what=f"{what}: the daemon", value=100 * core, unit="% of a core", bound=Bound(limit=25))
        yield _megabytes(f"{what}: memory of the page's process", memory.page, empty.page, MEMORY)
        yield _megabytes(f"{what}: memory of the whole of Chromium", memory.own, empty.own, MEMORY)
        yield _megabytes(f"{what}: files of Chromium beside", memory.files, empty.files)


def _memories(daemon: RealDaemon, browser: Browser) -> Iterator[Figure]:
    empty = _empty(browser)
    address = _sign_in(daemon, browser)
    for what, (path, mark) in VIEWS.items():
        browser.open(address + path, mark)
        browser.evaluate(f"{COUNT_FRAMES}(3)")
        memory = browser.memory()
        yield _megabytes(f"{what}: memory of the whole headless shell", memory.own, empty.own, MEMORY)
        yield _megabytes(f"{what}: files of the headless shell beside", memory.files, empty.files)


def _megabytes(what: str, size: int, empty: int, bound: Bound | None = None) -> Figure:
    return Figure(
        what=what, value=size / MB, unit="MB", others={"with an empty page": empty / MB}, bound=bound
    )


def _empty(browser: Browser) -> Memory:
    browser.open("data:text/html,<p>nothing</p>", "p")
    time.sleep(SETTLED)
    return browser.memory()


def _sign_in(daemon: RealDaemon, browser: Browser) -> str:
    """The address of the page."""
    once = daemon.post("/v1/sign-in")["address"]
    browser.open(once, OVERVIEW[1])
    return str(browser.evaluate("location.origin"))


def _beside(figure: Figure, board: tensorboard_page.Board | None) -> Figure:
    """With what TensorBoard takes for it."""
    if board is None:
        return figure
    theirs = {
        "one job's 20 curves: until it is there": board.seconds,
        "one job's 20 curves: memory of the page's process": board.memory.page / MB,
        "one job's 20 curves: memory of the whole of Chromium": board.memory.own / MB,
    }
    if figure.what not in theirs:
        return figure
    return msgspec.structs.replace(figure, others=figure.others | {"TensorBoard": theirs[figure.what]})


def _installed(names: tuple[str, ...]) -> str | None:
    return next((path for name in names if (path := shutil.which(name)) is not None), None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
