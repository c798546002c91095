"""A Chromium without a screen that is told where to go, and nothing more: Playwright has a browser keep every
answer that a page gets, which would be counted as the page's memory. Spoken to by the DevTools protocol over
a pipe (https://chromedevtools.github.io/devtools-protocol/).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from benchmarks import processes

PATIENCE = 120.0  # s
POLL = 0.01  # s
OWN = ("Pss_Anon:", "Pss_Shmem:", "SwapPss:")
OPTIONS = (
    "--headless", "--no-sandbox", "--remote-debugging-pipe", "--no-first-run", "--window-size=1600,1000",
    "--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows",
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup",  # the address bar: there is none
)  # fmt: skip


class Memory(NamedTuple):
    """Of all processes of a browser together, in bytes; what several of them share counts once. `own`: what
    they have taken for themselves; `files`: what of their program is in memory, which the system drops where
    it needs room. `page`: the part of `own` in the process that draws the page."""

    own: int
    files: int
    page: int


class Browser:
    """One window with one page; ended, and its profile removed, on leaving."""

    def __init__(self, program: str, profile: Path) -> None:
        self._profile = profile
        theirs_in, self._to = _high(*os.pipe())
        self._from, theirs_out = _high(*os.pipe())
        command = [program, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", *command],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._answers = self._read()
        self._number = 0
        self._tab = self._session = ""
        deadline = time.monotonic() + PATIENCE
        while not (pages := [one for one in self._targets() if one["type"] == "page"]):
            _in_time(deadline, "its window")
        self._attach(pages[0]["targetId"])

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._to)
        os.close(self._from)
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, address: str, mark: str) -> float:
        """Seconds until what the selector `mark` names is on the page, which is a new one: nothing is left of
        what was open before. Raises `TimeoutError`."""
        before = self._tab
        self._attach(self._tell("Target.createTarget", url="about:blank")["targetId"])
        self._tell("Target.closeTarget", targetId=before)
        began = time.monotonic()
        self._tell("Page.navigate", on_page=True, url=address)
        while not self.evaluate(f"document.querySelector({json.dumps(mark)}) !== null"):
            _in_time(began + PATIENCE, f"{mark} on {address}")
        return time.monotonic() - began

    def evaluate(self, script: str) -> Any:
        """What it, or its promise, comes to; None while one page goes and the next comes."""
        answer = self._tell(
            "Runtime.evaluate", on_page=True, expression=script, awaitPromise=True, returnByValue=True
        )
        return answer.get("result", {}).get("value")

    def memory(self) -> Memory:
        pids = processes.with_children(self._process.pid)
        own = {pid: processes.rolled_up(pid, *OWN) for pid in pids}
        pages = [pid for pid in pids if "--type=renderer" in " ".join(processes.command(pid))]
        return Memory(
            own=sum(own.values()),
            files=sum(processes.rolled_up(pid, "Pss_File:") for pid in pids),
            page=max(own[pid] for pid in pages),
        )

    def _attach(self, tab: str) -> None:
        self._tab = tab
        self._session = self._tell("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]

    def _targets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._tell("Target.getTargets")["targetInfos"]
        return found

    def _tell(self, method: str, on_page: bool = False, **params: object) -> dict[str, Any]:
        self._number += 1
        order: dict[str, object] = {"id": self._number, "method": method, "params": params}
        if on_page:
            order["sessionId"] = self._session
        with open(self._to, "wb", closefd=False) as pipe:
            pipe.write(json.dumps(order).encode() + b"\0")
        for answer in self._answers:
            if answer.get("id") == self._number:
                result: dict[str, Any] = answer.get("result", {})
                return result
        raise ConnectionError("the browser has ended")

    def _read(self) -> Iterator[dict[str, Any]]:
        left = b""
        while some := os.read(self._from, 65536):
            *whole, left = (left + some).split(b"\0")
            yield from map(json.loads, whole)


def _high(*pipe: int) -> tuple[int, ...]:
    """The same pipe under numbers that are not those which the browser reads and writes at, 3 and 4."""
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in pipe)
    for end in pipe:
        os.close(end)
    return moved


def _in_time(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"{what} did not come within {PATIENCE:.0f} s")
    time.sleep(POLL)
