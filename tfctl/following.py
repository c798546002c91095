"""`submit --follow`: the job's output as it comes, with a progress bar below it on a terminal.

Ctrl-C leaves the job running.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tfctl.output import styled, to_terminal, write_bytes
from tfctl.render.jobs import latest, position
from tfctl.render.words import one_line, visible
from trainforge.api import JobProgress, JobView, Progress
from trainforge.client.client import Client, NoDaemon
from trainforge.states import JobState

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

LONGEST_LINE = 64 * 1024  # bytes that are kept of a line which does not end


def follow(args: argparse.Namespace, job: int) -> int:
    """Show the job until it ends; 0 if it succeeded, else 1."""
    del args
    try:
        with Client() as client, _bar(job) as write:
            _copy_output(client, job, write)
            ended = client.wait(job)
    except KeyboardInterrupt:
        print(f"\njob {job} goes on; tfctl logs {job} -f shows it again", file=sys.stderr)
        return 130
    print(f"job {job} ({ended.name}) {one_line(ended.why)}{_result(ended)}")
    return 0 if ended.state is JobState.SUCCEEDED else 1


def _result(job: JobView) -> str:
    figures = latest(job.progress)
    return f": {figures}" if figures else ""


def _copy_output(client: Client, job: int, write: _Writer) -> None:
    """Output until the job has ended, over restarts of the daemon: what was shown is passed over."""
    shown = 0
    while True:
        at = 0
        try:
            for chunk in client.logs(job, attempt="all", follow=True):
                if at + len(chunk) > shown:
                    write(chunk[max(0, shown - at) :])
                at += len(chunk)
                shown = max(shown, at)
            return
        except NoDaemon:
            client.status()  # waits for a daemon that is being restarted, within the client's patience


class _Writer:
    """Bytes to standard output, as they are."""

    def __call__(self, data: bytes) -> None:
        write_bytes(data)


@contextlib.contextmanager
def _bar(job: int) -> Iterator[_Writer]:
    """A writer to standard output; on a terminal one that keeps a progress bar below what it writes."""
    if not to_terminal():
        yield _Writer()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    console = Console(file=styled(), highlight=False)
    figures = TextColumn("{task.fields[figures]}", markup=False)
    columns = (TextColumn("{task.description}"), BarColumn(), figures)
    with Bars(*columns, console=console, transient=True) as bars, Client() as client:
        task = bars.add_task(f"job {job}", total=1.0, figures="waits")
        watch = client.watch(job=job)

        def read() -> None:
            with contextlib.suppress(NoDaemon, OSError, ValueError):
                for item in watch:
                    if isinstance(item, JobProgress) and item.progress is not None:
                        done = item.progress.fraction or 0.0
                        bars.update(task, completed=done, figures=_figures(item.progress))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        above = _Above(bars)
        try:
            yield above
        finally:
            above.end()
            watch.close()


def _figures(progress: Progress) -> str:
    from tfctl.render.figures import duration

    left = f"{duration(progress.eta)} left" if progress.eta is not None else ""
    parts = (position(progress), latest(progress), progress.phase, left)
    return visible("  ".join(part for part in parts if part))


class _Above(_Writer):
    """Writes whole lines above the progress bar. Of a line that is written over again and again (a bar of
    its own) only the newest part is kept."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._rest = b""

    def __call__(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        begins = rest.rfind(b"\r", 0, -1) + 1  # one at the end may belong to a line break
        self._rest = rest[begins:][-LONGEST_LINE:]
        for line in lines:
            self._print(line)

    def end(self) -> None:
        """The last line may have no end."""
        if self._rest:
            self._print(self._rest)
            self._rest = b""

    def _print(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r").rsplit("\r", 1)[-1]
        self._bars.console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)
