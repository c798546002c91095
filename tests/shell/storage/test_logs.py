"""Output of an attempt, read while it grows and is rotated. Files are written as the shim writes them."""

from __future__ import annotations

import asyncio
import os
import random
import time
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.shell.storage.storing import wait_until
from trainforged.storage import logs
from trainforged.storage.logs import CHUNK, LONGEST_TAIL, Log, follow, tail


class Shim:
    """Writes output and rotates it by the shim's rule."""

    def __init__(self, folder: Path, name: str = "output") -> None:
        self.paths = {part: folder / f"{name}{part}.log" for part in ("", ".prev", ".head")}
        self.file = open(self.paths[""], "ab", buffering=0)  # noqa: SIM115

    def write(self, data: bytes) -> None:
        self.file.write(data)

    def rotate(self) -> None:
        new = ".prev" if self.paths[".head"].exists() else ".head"
        if new == ".prev" and self.paths[".prev"].exists():
            self.say_what_is_cut()
        self.file.close()
        os.rename(self.paths[""], self.paths[new])
        self.file = open(self.paths[""], "ab", buffering=0)  # noqa: SIM115

    def say_what_is_cut(self) -> None:
        with open(self.paths[".head"], "ab") as head:
            head.write(b"\n[trainforge: bytes are left out here]\n")


@pytest.fixture
def shim(tmp_path: Path) -> Shim:
    return Shim(tmp_path)


class Reader:
    """A follower in the background; what it got so far, and what it needs to end."""

    def __init__(self, folder: Path, name: str = "output", lines: int | None = None) -> None:
        self.got = b""
        self.largest = 0
        self.over = False
        self._stream = follow(folder, name, lambda: self.over, lines)
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for chunk in self._stream:
            self.got += chunk
            self.largest = max(self.largest, len(chunk))

    async def has(self, data: bytes) -> None:
        async with asyncio.timeout(60):
            while self.got != data:
                assert not self._task.done(), f"it ended with {self.got[-200:]!r}"
                await asyncio.sleep(0.005)

    async def all(self) -> bytes:
        self.over = True
        await asyncio.wait_for(self._task, 60)
        return self.got


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "POLL_SECONDS", 0.005)


# ---------------------------------------------------------------- the end of it


def test_the_last_lines(tmp_path: Path, shim: Shim) -> None:
    assert tail(tmp_path, "output", 10) == b""
    shim.write(b"one\ntwo\nthree\n")
    assert tail(tmp_path, "output", 2) == b"two\nthree\n"
    assert tail(tmp_path, "output", 3) == b"one\ntwo\nthree\n"
    assert tail(tmp_path, "output", 99) == b"one\ntwo\nthree\n"
    assert tail(tmp_path, "output", 0) == b""
    shim.write(b"fo")
    assert tail(tmp_path, "output", 1) == b"fo"
    assert tail(tmp_path, "output", 2) == b"three\nfo"


def test_a_tail_goes_back_over_rotations(tmp_path: Path, shim: Shim) -> None:
    for number in range(1, 7):
        shim.write(b"line %d\n" % number)
        if number % 2 == 0:
            shim.rotate()
    assert tail(tmp_path, "output", 1) == b"line 6\n"  # the newest part is empty
    assert tail(tmp_path, "output", 2) == b"line 5\nline 6\n"
    assert tail(tmp_path, "output", 4) == b"\n[trainforge: bytes are left out here]\nline 5\nline 6\n"
    assert tail(tmp_path, "output", 99).startswith(b"line 1\nline 2\n\n[trainforge")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    pieces=st.lists(st.text("ab\n", max_size=12).map(str.encode), max_size=3),
    lines=st.integers(1, 6),
    chunk=st.sampled_from([1, 2, 5, 64]),
)
def test_a_tail_is_the_last_lines_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: list[bytes], lines: int, chunk: int
) -> None:
    monkeypatch.setattr(logs, "CHUNK", chunk)
    for file in tmp_path.iterdir():
        file.unlink()
    for suffix, piece in zip([".log", ".prev.log", ".head.log"], reversed(pieces), strict=False):
        (tmp_path / f"output{suffix}").write_bytes(piece)
    assert tail(tmp_path, "output", lines) == b"".join(b"".join(pieces).splitlines(keepends=True)[-lines:])


def test_bytes_that_are_no_text_pass_through(tmp_path: Path, shim: Shim) -> None:
    shim.write(b"\xff\xfe\x00 50%\r100%\r\nend\xc3\n")
    assert tail(tmp_path, "output", 2) == b"\xff\xfe\x00 50%\r100%\r\nend\xc3\n"


def test_a_line_without_end_costs_bounded_memory(tmp_path: Path, shim: Shim) -> None:
    for _ in range(100):
        shim.write(b"x" * 2**20)
    tracemalloc.start()
    data = tail(tmp_path, "output", 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert data == b"x" * LONGEST_TAIL
    assert peak < 3 * LONGEST_TAIL


def test_the_end_of_a_gigabyte_is_found_at_once(tmp_path: Path, shim: Shim) -> None:
    shim.file.truncate(2**30)
    shim.write(b"".join(b"%099d\n" % number for number in range(1000)))
    best = min(_timed(lambda: tail(tmp_path, "output", 100)) for _ in range(5))
    assert len(tail(tmp_path, "output", 100)) == 10_000
    assert best < 0.02


def _timed(action: object) -> float:
    assert callable(action)
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def test_a_hole_of_a_terabyte_is_passed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    path.write_bytes(b"before\n")
    os.truncate(path, 2**40)
    with path.open("ab") as log:
        log.write(b"after\n")
    log = logs.Log(tmp_path, "output")
    text = b"".join(iter(log.read, b""))
    assert len(text) < 2 * CHUNK + 100
    assert text.replace(b"\0", b"") == b"before\nafter\n"
    assert not log.has_news()
    os.truncate(path, 2**41)
    assert b"".join(iter(log.read, b"")).strip(b"\0") == b"", "the rest of a block, and no more"
    assert not log.has_news()
    log.close()


def test_a_single_ranks_log_is_outputs_and_no_other_link_is_followed(tmp_path: Path, shim: Shim) -> None:
    (tmp_path / "rank-0.log").symlink_to("output.log")
    (tmp_path / "rank-0.head.log").symlink_to("output.head.log")
    shim.write(b"first\n")
    shim.rotate()
    shim.write(b"second\n")
    assert tail(tmp_path, "rank-0", 5) == b"first\nsecond\n"
    (tmp_path / "secret").write_bytes(b"secret\n")
    (tmp_path / "rank-1.log").symlink_to("secret")
    os.mkfifo(tmp_path / "rank-2.log")
    (tmp_path / "rank-3.log").mkdir()
    for rank in (1, 2, 3):
        assert tail(tmp_path, f"rank-{rank}", 5) == b""


# ---------------------------------------------------------------- while it grows


@pytest.fixture
def told(tmp_path: Path) -> None:
    """A file system that tells what lies in memory."""
    path = tmp_path / "probe"
    path.write_bytes(b"x")
    with path.open("rb") as file:
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except OSError as error:
            pytest.skip(f"this file system cannot: {error}")


@pytest.mark.usefixtures("told")
def test_what_was_just_written_is_read_at_once(tmp_path: Path, shim: Shim) -> None:
    log = Log(tmp_path, "output")
    shim.write(b"one\n")
    assert log.read_at_once() == b"", "no file is open yet"
    assert log.read() == b"one\n"
    assert log.read_at_once() == b""
    shim.write(b"two\n")
    assert log.read_at_once() == b"two\n"
    shim.write(b"x" * (CHUNK + 1))
    assert log.read_at_once() == b"", "it is more than a chunk"
    assert log.read() + log.read_at_once() == b"x" * (CHUNK + 1)
    log.close()


@pytest.mark.usefixtures("told")
async def test_who_follows_asks_no_thread_for_what_comes(
    tmp_path: Path, shim: Shim, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim.write(b"one\n")
    reader = Reader(tmp_path)
    await reader.has(b"one\n")
    asked: list[object] = []
    read = Log.read
    monkeypatch.setattr(Log, "read", lambda log: asked.append(log) or read(log))
    for number in range(5):
        shim.write(b"%d\n" % number)
        await reader.has(b"one\n" + b"".join(b"%d\n" % n for n in range(number + 1)))
    assert not asked
    await reader.all()


async def test_a_follower_gets_what_is_there_and_what_comes(tmp_path: Path, shim: Shim) -> None:
    shim.write(b"before\n")
    reader = Reader(tmp_path)
    await reader.has(b"before\n")
    shim.write(b"aft")
    await reader.has(b"before\naft")
    shim.write(b"er\n")
    assert await reader.all() == b"before\nafter\n"


async def test_a_follower_waits_for_output_that_begins_later(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "attempts" / "1")
    (tmp_path / "attempts" / "1").mkdir(parents=True)
    shim = Shim(tmp_path / "attempts" / "1")
    shim.write(b"hello\n")
    assert await reader.all() == b"hello\n"


async def test_a_follower_of_nothing_ends(tmp_path: Path) -> None:
    assert await Reader(tmp_path).all() == b""


async def test_a_follower_may_begin_with_the_last_lines(tmp_path: Path, shim: Shim) -> None:
    shim.write(b"one\ntwo\n")
    shim.rotate()
    shim.write(b"three\n")
    reader, late = Reader(tmp_path, lines=2), Reader(tmp_path, lines=0)
    await reader.has(b"two\nthree\n")
    shim.rotate()
    shim.write(b"four\n")
    assert await reader.all() == b"two\nthree\nfour\n"
    assert await late.all() == b"four\n"


async def test_a_follower_goes_on_over_rotations(tmp_path: Path, shim: Shim) -> None:
    reader, said = Reader(tmp_path), b""
    for number in range(12):
        shim.write(b"line %d\n" % number)
        said += b"line %d\n" % number
        if number % 3 == 1:
            shim.write(b"last words\n")
            said += b"last words\n"
            shim.rotate()
        await reader.has(said)
    assert await reader.all() == said


async def test_a_follower_that_is_late_misses_only_what_was_cut(tmp_path: Path, shim: Shim) -> None:
    shim.write(b"one\n")
    reader = Reader(tmp_path)
    await reader.has(b"one\n")
    for word in (b"two\n", b"three\n", b"four\n", b"five\n"):  # no await: it cannot read between
        shim.rotate()
        shim.write(word)
    cut = b"\n[trainforge: bytes are left out here]\n" * 2
    assert await reader.all() == b"one\n" + cut + b"four\nfive\n"


async def test_a_follower_whose_file_is_gone_goes_on_with_prev(tmp_path: Path, shim: Shim) -> None:
    shim.write(b"one\n")
    shim.rotate()
    shim.write(b"two\n")
    reader = Reader(tmp_path)
    await reader.has(b"one\ntwo\n")
    for word in (b"three\n", b"four\n", b"five\n"):
        shim.rotate()
        shim.write(word)
    assert await reader.all() == b"one\ntwo\nfour\nfive\n"


async def test_a_file_that_was_cut_short_is_read_from_its_beginning(tmp_path: Path, shim: Shim) -> None:
    shim.write(b"a long beginning\n")
    reader = Reader(tmp_path)
    await reader.has(b"a long beginning\n")
    shim.file.truncate(0)
    shim.write(b"anew\n")
    assert await reader.all() == b"a long beginning\nanew\n"


async def test_a_rotation_that_broke_off_hides_nothing(tmp_path: Path, shim: Shim) -> None:
    shim.write(b"one\n")
    shim.rotate()
    shim.write(b"two\n")
    os.rename(tmp_path / "output.log", tmp_path / "output.prev.log")
    assert await Reader(tmp_path).all() == b"one\ntwo\n"


async def test_nothing_is_lost_or_doubled_while_a_thread_writes_and_rotates(
    tmp_path: Path, shim: Shim
) -> None:
    """A part is rotated only when the one before it has been read, so nothing is cut before the reader."""
    said, chance = b"".join(b"%07d\n" % number for number in range(20_000)), random.Random(1)
    reader = Reader(tmp_path)

    def write() -> None:
        at = rotated_at = 0
        while at < len(said):
            size = chance.randrange(1, 5000)
            shim.write(said[at : at + size])
            at = min(at + size, len(said))
            if chance.random() < 0.5:
                wait_until(lambda: len(reader.got) >= rotated_at)  # noqa: B023
                shim.rotate()
                rotated_at = at

    await asyncio.to_thread(write)
    assert await reader.all() == said
    assert reader.largest <= CHUNK


async def test_memory_is_bounded_when_the_reader_is_slow(tmp_path: Path, shim: Shim) -> None:
    for _ in range(50):
        shim.write(b"y" * 2**20)
    stream: AsyncIterator[bytes] = follow(tmp_path, "output", lambda: True)
    tracemalloc.start()
    total = 0
    async for chunk in stream:
        total += len(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 50 * 2**20
    assert peak < 20 * CHUNK


async def test_a_follower_that_is_dropped_closes_its_files(tmp_path: Path, shim: Shim) -> None:
    shim.write(b"x" * 3 * CHUNK)
    shim.rotate()
    shim.write(b"y")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        stream = follow(tmp_path, "output", lambda: False)
        assert await anext(stream) == b"x" * CHUNK
        await stream.aclose()
        task = asyncio.create_task(anext(follow(tmp_path, "output", lambda: False, 0)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert len(os.listdir("/proc/self/fd")) <= before
