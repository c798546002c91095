"""The log of a job in the live view: lines as a terminal would have left them, followed or looked back at."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.client.topping import text
from tfctl.top.frame import Size
from tfctl.top.logtext import KEPT, LogText, folded
from tfctl.top.logview import LogRead, LogView

SIZE = Size(20, 6)  # four rows of log


def read(*chunks: bytes) -> LogText:
    log = LogText()
    for chunk in chunks:
        log.feed(chunk)
    return log


def shown(view: LogView, size: Size = SIZE) -> list[str]:
    return [text(line).rstrip() for line in view.frame(size)[1:-1]]


def test_lines_come_in_pieces_and_keep_no_control_characters() -> None:
    log = read(
        b"one\ntw", b"o\n\x1b[31mred\x1b[0m\ta\x00b\n", "gr\xfcn\n".encode()[:3], "gr\xfcn\n".encode()[3:]
    )
    assert log.screen(80, 10, log.end) == ["one", "two", "red     a b", "grün"]


def test_a_progress_bar_is_one_line() -> None:
    log = read(b" 10%\r 50%", b"\r100%\r\nnext\r\nopen\r")
    assert log.screen(80, 10, log.end) == ["100%", "next", "open"]


def test_a_line_that_never_ends_costs_no_memory() -> None:
    log = LogText()
    for _ in range(200):
        log.feed(b"x" * 1000)
    assert len(log.line(0)) <= 11_000
    log.feed(b"\n" * (KEPT + 5))
    assert log.end - log.first == KEPT


@given(st.lists(st.binary(max_size=30), max_size=10), st.integers(2, 40), st.integers(0, 8))
def test_any_output_folds_into_the_screen(chunks: list[bytes], width: int, rows: int) -> None:
    log = read(*chunks)
    lines = log.screen(width, rows, log.end)
    assert len(lines) <= rows
    assert all(cell_len(line) <= width and line.isprintable() for line in lines)
    assert log.screen(width, rows, log.end) == read(b"".join(chunks)).screen(width, rows, log.end)


def test_long_lines_are_folded() -> None:
    assert folded("abcdefg", 3) == ["abc", "def", "g"]
    assert folded("", 3) == [""]


def test_the_end_is_followed_until_one_looks_back() -> None:
    view = LogView(7, "resnet")
    view.take(LogRead(job=7, data=b"".join(b"line %d\n" % n for n in range(20))))
    assert shown(view) == ["line 16", "line 17", "line 18", "line 19"]
    assert text(view.frame(SIZE)[0]).startswith("job 7 (resnet)")

    assert view.press("pageup", SIZE)
    assert shown(view) == ["line 13", "line 14", "line 15", "line 16"]
    view.take(LogRead(job=7, data=b"line 20\n"))
    assert shown(view)[-1] == "line 16", "what one looks at stays"
    for key in ("home", "up", "k"):
        assert view.press(key, SIZE)
    assert shown(view) == ["line 0", "line 1", "line 2", "line 3"]
    for _ in range(30):
        assert view.press("down", SIZE)
    assert shown(view)[-1] == "line 20"
    view.take(LogRead(job=7, data=b"line 21\n"))
    assert shown(view)[-1] == "line 21", "at the end it follows again"

    assert view.press("g", SIZE)
    assert view.press("G", SIZE)
    assert shown(view)[-1] == "line 21"
    assert not view.press("q", SIZE)


def test_it_says_when_no_more_comes_and_begins_anew_after_a_restart() -> None:
    view = LogView(7, "resnet")
    wide = Size(60, 6)
    assert text(view.frame(wide)[0]).endswith("following")
    view.take(LogRead(job=7, data=b"before\n"))
    view.take(LogRead(job=7, over="daemon away, waiting for it"))
    assert text(view.frame(wide)[0]).endswith("daemon away, waiting for it")
    view.take(LogRead(job=7, data=None))
    view.take(LogRead(job=7, data=b"before\nafter\n"))
    assert shown(view, wide)[:2] == ["before", "after"]
    assert text(view.frame(wide)[0]).endswith("following")


@given(st.integers(1, 60), st.integers(1, 12), st.binary(max_size=200))
def test_its_frame_is_exactly_as_large_as_the_screen(width: int, height: int, data: bytes) -> None:
    view = LogView(7, "resnet")
    view.take(LogRead(job=7, data=data))
    lines = view.frame(Size(width, height))
    assert len(lines) == height
    assert all(sum(cell_len(span.text) for span in line) == width for line in lines)
