"""What `submit --follow` shows of a job's output above its progress bar, on a terminal."""

from __future__ import annotations

import io

from rich.console import Console
from rich.progress import Progress

from tfctl.following import LONGEST_LINE, _Above


def shown(*chunks: bytes) -> list[str]:
    out = io.StringIO()
    above = _Above(Progress(console=Console(file=out, width=80), disable=True))
    for chunk in chunks:
        above(chunk)
        assert len(above._rest) <= LONGEST_LINE
    above.end()
    return out.getvalue().splitlines()


def test_lines_are_shown_whole_the_last_one_without_its_end_too() -> None:
    assert shown(b"one\ntw", b"o\nthr", b"ee") == ["one", "two", "three"]
    assert shown(b"one\r", b"\ntwo\n") == ["one", "two"]
    assert shown(b"step:100:loss [bold]:smile:\n") == ["step:100:loss [bold]:smile:"], "as it was written"


def test_a_bar_of_the_jobs_own_shows_as_it_stood_last() -> None:
    assert shown(b"10%\r20%\r", b"30%", b"\r100%\n", b"done") == ["100%", "done"]


def test_what_never_ends_takes_no_more_and_more_memory() -> None:
    assert shown(*[b"\r" + b"x" * 1000] * 1000) == ["x" * 1000]
    assert shown(*[b"x" * 1000] * 1000) == ["x" * LONGEST_LINE]
