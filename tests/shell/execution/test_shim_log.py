"""Logs within a cap, and lines of several ranks in one."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import wait_for
from trainforged.execution.shim.log import Log
from trainforged.execution.shim.output import HOLD, LONGEST_LINE, Output

LIMIT = 64 * 1024


def whole(stem: Path) -> bytes:
    parts = (f"{stem}.{part}" for part in ("head.log", "prev.log", "log"))
    return b"".join(Path(part).read_bytes() for part in parts if os.path.exists(part))


def taken(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def lines(first: int, last: int) -> list[bytes]:
    return [b"line %06d\n" % number for number in range(first, last)]


def test_below_the_cap_there_is_one_file_after_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "output.log").write_bytes(b"building the environment\n")
    Log(f"{tmp_path}/output", LIMIT).write(b"hello\n")
    assert [path.name for path in tmp_path.iterdir()] == ["output.log"]
    assert (tmp_path / "output.log").read_bytes() == b"building the environment\nhello\n"


def test_nothing_is_cut_before_the_cap_is_reached(tmp_path: Path) -> None:
    log = Log(f"{tmp_path}/output", LIMIT)
    written = lines(0, LIMIT // 13)
    for line in written:
        log.write(line)
    assert {path.name for path in tmp_path.iterdir()} == {"output.head.log", "output.prev.log", "output.log"}
    assert whole(tmp_path / "output") == b"".join(written)


def test_beyond_the_cap_first_and_newest_stay_and_the_gap_is_stated(tmp_path: Path) -> None:
    log = Log(f"{tmp_path}/output", LIMIT)
    written = lines(0, 50_000)
    for line in written:
        log.write(line)
    assert taken(tmp_path) <= LIMIT + 100, "the statement alone comes on top"
    first, _, rest = whole(tmp_path / "output").partition(b"\n[trainforge: ")
    cut, _, last = rest.partition(b" bytes of output are left out here]\n")
    total = b"".join(written)
    assert total.startswith(first)
    assert len(first) >= LIMIT // 4 - 100
    assert total.endswith(last)
    assert len(last) >= LIMIT * 3 // 8, "the part before the newest is there too"
    assert len(first) + int(cut) + len(last) == len(total)


@pytest.mark.parametrize("together", [1, 7])
def test_a_part_begins_with_a_line(tmp_path: Path, together: int) -> None:
    log = Log(f"{tmp_path}/output", LIMIT)
    for first in range(0, 20_000, together):
        log.write(b"".join(lines(first, first + together)))
        assert (tmp_path / "output.log").read_bytes()[:5] in (b"", b"line ")


def test_output_without_lines_is_kept_within_the_cap_too(tmp_path: Path) -> None:
    log = Log(f"{tmp_path}/output", LIMIT)
    for _ in range(40):
        log.write(b"x" * 65_536)
    assert taken(tmp_path) <= LIMIT + 100


def test_a_follower_with_an_open_file_misses_nothing(tmp_path: Path) -> None:
    log = Log(f"{tmp_path}/output", LIMIT)
    path = tmp_path / "output.log"
    file, seen = path.open("rb"), b""
    written = lines(0, 20_000)
    for line in written:
        log.write(line)
        seen += file.read()
        if os.fstat(file.fileno()).st_ino != path.stat().st_ino:
            file.close()
            file = path.open("rb")
            seen += file.read()
    file.close()
    assert seen == b"".join(written)


def test_an_alias_names_every_part(tmp_path: Path) -> None:
    log = Log(f"{tmp_path}/output", LIMIT, alias=f"{tmp_path}/rank-0")
    assert {path.name for path in tmp_path.iterdir()} == {"output.log", "rank-0.log"}
    for line in lines(0, 10_000):
        log.write(line)
    assert whole(tmp_path / "rank-0") == whole(tmp_path / "output")
    assert os.readlink(tmp_path / "rank-0.prev.log") == "output.prev.log"


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Files cannot grow beyond 10,000 bytes: the same to a writer as a disk without room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_costs_output_and_is_stated_once_there_is_room(tmp_path: Path, full_disk: None) -> None:
    log = Log(f"{tmp_path}/output", LIMIT)
    for _ in range(30):
        log.write(b"y" * 999 + b"\n")
    assert (tmp_path / "output.log").stat().st_size == 10_000
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    log.write(b"again\n")
    log.write(b"and again\n")
    end = (tmp_path / "output.log").read_bytes()[10_000:]
    assert end == b"\n[trainforge: 20000 bytes of output lost: the disk refused them]\nagain\nand again\n"


class Writers:
    """Two ranks and their launcher, writing to an Output."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = Output(str(folder), 2, 1 << 20)
        pipes = [os.open(folder / f"rank-{rank}.pipe", os.O_WRONLY) for rank in range(2)]
        self.fds = [self.output.descriptor, *pipes]

    def write(self, source: int, text: bytes) -> None:
        """Source 0 is the launcher, 1 and 2 are ranks 0 and 1."""
        os.write(self.fds[source], text)
        self.output.sources[source].pump()

    def merged(self) -> bytes:
        return (self.folder / "output.log").read_bytes()

    def close(self) -> None:
        self.output.finish()
        for fd in (*self.fds, *(source.fd for source in self.output.sources)):
            os.close(fd)


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[Writers]:
    one = Writers(tmp_path)
    yield one
    one.close()


def test_each_line_says_whose_it_is(writers: Writers) -> None:
    writers.write(0, b"launching\n")
    writers.write(1, b"one\ntwo\n")
    writers.write(2, b"three\n")
    assert writers.merged() == b"launching\n[rank0] one\n[rank0] two\n[rank1] three\n"
    assert (writers.folder / "rank-0.log").read_bytes() == b"one\ntwo\n"
    assert (writers.folder / "rank-1.log").read_bytes() == b"three\n"


def test_pieces_of_a_line_are_put_together(writers: Writers) -> None:
    for piece in (b"loss", b" ", b"0.5"):
        writers.write(1, piece)
        writers.write(2, b"other\n")
    writers.write(1, b"\n")
    assert writers.merged() == b"[rank1] other\n" * 3 + b"[rank0] loss 0.5\n"


def test_half_a_line_is_shown_in_a_moment_and_broken_only_by_another(writers: Writers) -> None:
    writers.write(1, b"loading")
    assert writers.merged() == b""
    due = writers.output.flush_at
    assert due is not None
    writers.output.flush(due - HOLD / 2)
    assert writers.merged() == b""
    writers.output.flush(due)
    assert writers.merged() == b"[rank0] loading"
    assert writers.output.flush_at is None
    writers.write(1, b"...\n")
    assert writers.merged() == b"[rank0] loading...\n"
    writers.write(1, b"again")
    writers.output.sources[1].flush()
    writers.write(2, b"hello\n")
    writers.write(1, b" done\n")
    assert writers.merged().endswith(b"[rank0] again\n[rank1] hello\n[rank0]  done\n")


def test_a_progress_bar_keeps_its_name(writers: Writers) -> None:
    writers.write(1, b"\r10%\r20%\r")
    writers.write(1, b"30%\n")
    assert writers.merged() == b"[rank0] \r[rank0] 10%\r[rank0] 20%\r[rank0] 30%\n"


def test_an_endless_line_is_passed_on_in_pieces(writers: Writers) -> None:
    for _ in range(5):
        writers.write(1, b"x" * (LONGEST_LINE // 2))
    assert len(writers.merged()) > LONGEST_LINE


def test_the_rest_is_taken_at_the_end(tmp_path: Path) -> None:
    writers = Writers(tmp_path)
    os.write(writers.fds[2], b"z" * 60_000 + b"\nlast words")
    os.write(writers.fds[0], b"bye")
    writers.close()
    assert writers.merged().endswith(b"\n[rank1] last words")
    assert b"bye" in writers.merged()
    assert not list(tmp_path.glob("*.pipe"))
    wait_for(lambda: (tmp_path / "rank-1.log").stat().st_size == 60_011)
