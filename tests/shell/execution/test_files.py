"""The content store: whole contents under right names, on the disk, and gone when nothing needs them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.shell.execution.disks import small_disk
from trainforged.execution.errors import BadManifest, Damaged, MissingContent, NoSpace, TooLarge, WrongContent
from trainforged.execution.files.store import Files

HOUR = 3600
ANY = 1 << 30


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def store(files: Files, data: bytes, *, durable: bool = True) -> str:
    await files.put(sha256(data), stream(data), ANY, durable=durable)
    return sha256(data)


def everything(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def files(root: Path) -> Files:
    return Files(root)


# ------------------------------------------------------------------------------ putting


async def test_a_content_is_kept_privately_under_its_hash(files: Files, root: Path) -> None:
    data = b"x" * 3_000_000
    await files.put(
        sha256(data), stream(*(data[start : start + 70_000] for start in range(0, len(data), 70_000))), ANY
    )

    name = f"{sha256(data)[:2]}/{sha256(data)}"
    assert everything(root) == {name: data}
    assert files.path(sha256(data)) == root / name
    assert (root / name).stat().st_mode & 0o777 == 0o600
    assert {path.stat().st_mode & 0o777 for path in (root, root / "incoming", root / name[:2])} == {0o700}


async def test_the_empty_content_is_one_too(files: Files) -> None:
    assert files.read(await store(files, b"")) == b""


async def test_what_is_missing_is_told_once_each_and_in_order(files: Files) -> None:
    here = await store(files, b"here")

    assert files.missing(["f" * 64, here, "0" * 64, "f" * 64]) == ("f" * 64, "0" * 64)


@pytest.mark.parametrize("name", ["", "x", "../" * 21 + "x", "A" * 64, "0" * 63 + "\n", "0" * 65])
async def test_a_name_that_is_no_hash_is_refused(files: Files, root: Path, name: str) -> None:
    with pytest.raises(BadManifest, match="is not 64 lower-case hex digits"):
        files.missing([name])
    with pytest.raises(BadManifest):
        await files.put(name, stream(b"x"), ANY)
    assert everything(root) == {}


async def test_something_else_than_was_promised_is_refused(files: Files, root: Path) -> None:
    with pytest.raises(WrongContent, match=f"{'0' * 64}: 5 bytes came, with the hash {sha256(b'other')}"):
        await files.put("0" * 64, stream(b"oth", b"er"), ANY)

    assert everything(root) == {}


async def test_more_than_is_allowed_is_refused_as_soon_as_it_comes(files: Files, root: Path) -> None:
    given = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            given.append(1)
            yield b"x" * 1_000_000

    with pytest.raises(TooLarge, match="more than the 3000000 bytes"):
        await files.put("0" * 64, endless(), 3_000_000)

    assert len(given) == 4
    assert everything(root) == {}


async def test_a_content_that_is_there_is_not_read_again(files: Files) -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("was read")
        yield b""

    await files.put(await store(files, b"data"), never(), ANY)


async def test_a_broken_upload_leaves_nothing(files: Files, root: Path) -> None:
    async def breaks_off() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await files.put("0" * 64, breaks_off(), ANY)

    assert everything(root) == {}


async def test_a_cancelled_upload_leaves_nothing_and_can_be_repeated(files: Files, root: Path) -> None:
    begun = asyncio.Event()

    async def stalls() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        begun.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(files.put(sha256(b"data"), stalls(), ANY))
    await begun.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload

    assert everything(root) == {}
    assert files.read(await store(files, b"data")) == b"data"


async def test_many_uploads_of_one_content_at_once_make_one(files: Files, root: Path) -> None:
    data = os.urandom(2_500_000)

    await asyncio.gather(*(store(files, data, durable=number % 2 == 0) for number in range(12)))

    assert await files.secure([sha256(data)]) == ()
    assert everything(root) == {f"{sha256(data)[:2]}/{sha256(data)}": data}


def test_bytes_are_stored_from_any_thread(files: Files, root: Path) -> None:
    def put(number: int) -> None:
        for text in range(30):
            files.put_bytes(b"%d" % (text + number % 2))

    threads = [threading.Thread(target=put, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(everything(root).values()) == sorted(b"%d" % text for text in range(31))
    assert files.put_bytes(b"7") == sha256(b"7")


# ------------------------------------------------------------------------------ many at once


async def test_what_waits_for_secure_counts_as_there_and_gets_its_name_with_it(
    files: Files, root: Path
) -> None:
    hashes = [await store(files, b"%d" % number, durable=False) for number in range(300)]
    assert files.missing(hashes) == ()
    assert not files.path(hashes[0]).exists()

    assert await files.secure([*hashes[:280], "0" * 64]) == ("0" * 64,)
    assert await files.secure(hashes[280:]) == ()

    assert {path.rpartition("/")[2] for path in everything(root)} == set(hashes)
    assert not os.listdir(root / "incoming")
    assert [files.read(name) for name in hashes[:2]] == [b"0", b"1"]


async def test_what_was_not_secured_is_forgotten_with_the_process(files: Files, root: Path) -> None:
    loose, kept = await store(files, b"loose", durable=False), await store(files, b"kept")

    assert Files(root).missing([loose, kept]) == (loose,)


async def test_a_durable_put_makes_good_an_earlier_one_that_was_not(files: Files, root: Path) -> None:
    await store(files, b"data", durable=False)
    await store(files, b"data")

    assert Files(root).missing([sha256(b"data")]) == ()


# ------------------------------------------------------------------------------ crashes and full disks


KILLED = """
import asyncio, hashlib, os, sys
from pathlib import Path
from trainforged.execution.files.store import Files

async def main():
    files = Files(Path(sys.argv[1]))
    number = 0
    while True:
        number += 1
        data = number.to_bytes(4, "little") * 100_000
        async def chunks():
            for start in range(0, len(data), 50_000):
                yield data[start : start + 50_000]
        await files.put(hashlib.sha256(data).hexdigest(), chunks(), 1 << 30)
        os.write(1, b"%d\\n" % number)

asyncio.run(main())
"""


def test_a_killed_process_leaves_every_acknowledged_content_and_no_wrong_one(root: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(root)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in process.stdout if line.endswith(b"\n")]
    process.wait()

    files = Files(root)

    contents = everything(root)
    assert all(sha256(data) == name.rpartition("/")[2] for name, data in contents.items())
    expected = [sha256(number.to_bytes(4, "little") * 100_000) for number in acknowledged]
    assert files.missing(expected) == ()
    assert not os.listdir(root / "incoming")


async def test_a_full_disk_is_said_so_and_nothing_is_left(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        files = Files(disk / "files")
        small = await store(files, b"small")

        for durable in (True, False):
            with pytest.raises(NoSpace, match="no space is left"):
                await store(files, os.urandom(3_000_000), durable=durable)
        with pytest.raises(NoSpace):
            files.put_bytes(os.urandom(3_000_000))

        assert list(everything(disk / "files").values()) == [b"small"]
        assert files.missing([small]) == ()


# ------------------------------------------------------------------------------ reading


async def test_a_damaged_content_is_noticed_and_can_be_sent_again(files: Files) -> None:
    name = await store(files, b"right")
    files.path(name).write_bytes(b"wrong")

    with pytest.raises(Damaged, match=f"{name} was damaged on the disk; submit the project again"):
        files.read(name)

    assert files.missing([name]) == (name,)
    with pytest.raises(MissingContent, match=f"{name} is not in the store"):
        files.read(name)
    await store(files, b"right")
    assert files.read(name) == b"right"


# ------------------------------------------------------------------------------ collecting


def age(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


async def test_what_nothing_names_is_removed_an_hour_after_its_last_use(files: Files) -> None:
    named, unnamed, young, asked_for = [
        await store(files, data) for data in (b"named", b"unnamed", b"y", b"asked")
    ]
    for name in (named, unnamed, asked_for):
        age(files.path(name), HOUR + 1)
    age(files.path(young), HOUR - 60)
    assert files.missing([asked_for]) == ()

    assert files.collect({named}) == len(b"unnamed")

    assert files.missing([named, unnamed, young, asked_for]) == (unnamed,)
    assert files.collect(set()) == 0


async def test_an_upload_that_was_given_up_is_removed_and_one_under_way_is_not(
    files: Files, root: Path
) -> None:
    given_up, recent = (
        await store(files, b"given up", durable=False),
        await store(files, b"recent", durable=False),
    )
    age(root / "incoming" / given_up, HOUR + 1)
    under_way = root / "incoming" / "0.part"
    under_way.touch()

    assert files.collect(set()) == len(b"given up")

    assert await files.secure([given_up, recent]) == (given_up,)
    assert under_way.exists()


async def test_collecting_beside_submissions_takes_nothing_they_were_told_is_there(files: Files) -> None:
    contents = [b"%d" % number for number in range(60)]
    names = [await store(files, data) for data in contents]
    stop = threading.Event()
    collected = []

    def collect() -> None:
        while not stop.is_set():
            collected.append(files.collect(set()))

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        for _ in range(30):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    age(files.path(name), 2 * HOUR)
            lacking = set(files.missing(names))
            for data in contents:
                if sha256(data) in lacking:
                    await store(files, data, durable=False)
            assert await files.secure(names) == ()
            for name, data in zip(names, contents, strict=True):
                assert files.read(name) == data
    finally:
        stop.set()
        collector.join()
    assert sum(collected) > 0
