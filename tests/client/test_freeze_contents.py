"""What is frozen of each file: hash, mode, link; and that what is sent later is what was hashed."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.client.freezing import IDENTITY, Folder, paths
from trainforge.api import FileEntry
from trainforge.project import freeze as freezing
from trainforge.project.digests import LARGE
from trainforge.project.freeze import FileChanged, FrozenTooLarge


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "project")


ALL_SETTLED = -(10**12)  # in place of `SETTLED`: even what is written in a while is old enough


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_an_entry_holds_hash_size_and_mode(folder: Folder) -> None:
    folder.write("empty", text="").write("run.sh", text="#!/bin/sh\n").write("big.bin", text="x" * 700_000)
    (folder.root / "run.sh").chmod(0o4755)
    (folder.root / "empty").chmod(0o640)
    (folder.root / "big.bin").chmod(0o644)

    frozen = folder.freeze()

    assert frozen.entries == (
        FileEntry(path="big.bin", sha256=sha256(b"x" * 700_000), mode=0o644, size=700_000),
        FileEntry(path="empty", sha256=sha256(b""), mode=0o640, size=0),
        FileEntry(path="run.sh", sha256=sha256(b"#!/bin/sh\n"), mode=0o755, size=10),
    )
    assert frozen.size == 700_010
    assert [frozen.open(entry).read()[:3] for entry in frozen.entries] == [b"xxx", b"", b"#!/"]
    assert frozen.path(frozen.entries[2]) == str(folder.root / "run.sh")


def test_equal_files_are_one_content(folder: Folder) -> None:
    frozen = folder.write("a/__init__.py", "b/__init__.py", text="").write("train.py").freeze()

    contents = frozen.contents()

    assert len(contents) == 2
    assert contents[sha256(b"")].path == "b/__init__.py"


def test_the_project_has_its_files_their_folders_and_what_is_linked(folder: Folder) -> None:
    frozen = folder.write("lib/model.py", "sets/a/1").freeze(link=("sets",))

    has = [
        frozen.has(path) for path in ("lib/model.py", "./lib", "sets/a/2", "lib/mod", "train.py", "../lib")
    ]

    assert has == [True, True, True, False, False, False]


# ------------------------------------------------------------------------------ symbolic links


def targets(folder: Folder, **patterns: tuple[str, ...]) -> dict[str, str | None]:
    return {
        entry.path: entry.target for entry in folder.freeze(**patterns).entries if entry.target is not None
    }


def test_a_link_inside_the_project_is_kept(folder: Folder) -> None:
    folder.write("lib/model.py", "conf/base.yaml")
    folder.link("model.py", "lib/model.py").link("lib/conf.yaml", "../conf/./base.yaml").link(
        "library", "lib"
    )
    folder.link("dangling", "nothing").link("lib/top", "..")

    frozen = folder.freeze()

    assert {entry.path: entry.target for entry in frozen.entries if entry.target} == {
        "dangling": "nothing",
        "lib/conf.yaml": "../conf/./base.yaml",
        "lib/top": "..",
        "library": "lib",
        "model.py": "lib/model.py",
    }
    assert frozen.skipped == ()


def test_a_link_that_names_the_project_absolutely_stays_inside_the_copy(
    folder: Folder, tmp_path: Path
) -> None:
    (tmp_path / "alias").symlink_to(folder.root)
    folder.write("lib/model.py").link("a.py", str(folder.root / "lib/model.py"))
    folder.link("lib/b.py", str(tmp_path / "alias/lib/model.py")).link("c.py", "../project/lib/model.py")

    inside = {"a.py": "lib/model.py", "c.py": "lib/model.py", "lib/b.py": "model.py"}
    assert targets(folder) == inside
    assert targets(Folder(tmp_path / "alias")) == inside


def test_a_link_out_of_the_project_is_used_in_place_and_that_is_said(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "shared.py").write_text("x")
    folder.write("train.py").link("data", "/mnt/sets").link("lib/shared.py", "../../shared.py")

    frozen = folder.freeze()

    assert [entry.target for entry in frozen.entries] == ["/mnt/sets", str(tmp_path / "shared.py"), None]
    assert frozen.skipped == (
        "data: leads out of the project and is used in place, not frozen",
        "lib/shared.py: leads out of the project and is used in place, not frozen",
    )


def test_a_link_to_what_is_left_out_is_spoken_of(folder: Folder) -> None:
    folder.init().write("data/x", "sets/y", "lib/deep/z.py").write(".gitignore", text="data\n")
    folder.link("current", "data/x").link("set", "sets/y").link("code", "lib")

    frozen = folder.freeze(link=("sets",))

    assert frozen.skipped == ("current: leads to data/x, which is not frozen",)


# ------------------------------------------------------------------------------ size


def test_too_large_a_project_is_refused_with_its_largest_folders(folder: Folder) -> None:
    folder.write("train.py").write("data/raw/a.bin", text="x" * 4000).write("data/raw/b.bin", text="x" * 4000)
    folder.write("data/labels.csv", text="x" * 100).write("runs/1/w.pt", "runs/2/w.pt", text="x" * 1500)

    with pytest.raises(FrozenTooLarge) as refused:
        folder.freeze(limit=10_000)

    assert refused.value.largest == (("data/raw/", 8000), ("runs/", 3000), ("train.py", 8))
    assert str(refused.value) == (
        "the project has 10.8 KiB, above the limit of 9.8 KiB; largest: data/raw/ (7.8 KiB), "
        "runs/ (2.9 KiB), train.py (8 bytes). Name what the job reads in project.link (it is used in "
        "place), and what it does not need in project.exclude or .gitignore"
    )
    assert folder.freeze(limit=11_108).size == 11_108
    assert folder.freeze(limit=10_000, link=("data",)).size == 3008


def test_too_many_files_are_refused_with_the_fullest_folders(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezing, "MOST_FILES", 3)
    folder.write("train.py", "images/1.png", "images/2.png", "images/3.png")

    with pytest.raises(
        FrozenTooLarge, match=r"has 4 files, more than 3; largest: images/ \(3 files\), train\.py"
    ):
        folder.freeze()


# ------------------------------------------------------------------------------ files that change


def change(folder: Folder, path: str, how: str) -> None:
    file = folder.root / path
    if how == "append":
        with open(file, "a") as opened:
            opened.write("more")
        return
    file.unlink()
    if how == "link":
        folder.write("other.py").link(path, "other.py")


CHANGES = pytest.mark.parametrize("how", ["append", "remove", "link"])


@CHANGES
@pytest.mark.parametrize("size", [10, LARGE])
def test_an_edit_while_a_project_is_submitted_does_not_reach_the_job(
    folder: Folder, how: str, size: int
) -> None:
    folder.write("train.py", text="x" * size)
    frozen = folder.freeze()

    change(folder, "train.py", how)

    assert frozen.open(frozen.entries[0]).read() == b"x" * size


@CHANGES
def test_a_large_file_that_changed_after_it_was_hashed_is_not_given(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("trainforge.project.digests.SETTLED", ALL_SETTLED)
    folder.write("weights.pt", text="x" * LARGE)
    frozen = folder.freeze()
    assert frozen.open(frozen.entries[0]).read() == b"x" * LARGE

    change(folder, "weights.pt", how)

    with pytest.raises(FileChanged, match=r"weights\.pt changed while the project was being read"):
        frozen.open(frozen.entries[0])


def test_what_does_not_fit_in_memory_has_to_hold_still(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainforge.project.digests._MOST_HELD", 8)
    monkeypatch.setattr("trainforge.project.digests._MOST_COPIED", 0)
    folder.write("a", "b", text="12345").write("c", text="x" * LARGE)
    frozen = folder.freeze()
    for path in "abc":
        change(folder, path, "append")

    assert frozen.open(frozen.entries[0]).read() == b"12345"
    for entry in frozen.entries[1:]:
        with pytest.raises(FileChanged):
            frozen.open(entry)


@pytest.fixture
def scribbler(folder: Folder) -> Iterator[Callable[[str], None]]:
    """Keeps rewriting a file, as a training does with its log."""
    done = threading.Event()
    threads = []

    def scribble(path: str) -> None:
        started = threading.Event()

        def run() -> None:
            with open(folder.root / path, "r+b", buffering=0) as file:
                number = 0
                while not done.is_set():
                    number += 1
                    os.pwrite(file.fileno(), number.to_bytes(8, "little") * 1000, 0)
                    started.set()

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        started.wait()

    yield scribble
    done.set()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(("size", "copied_at_once"), [(500, True), (LARGE, True), (50 << 20, False)])
def test_of_a_file_that_never_holds_still_what_is_given_is_what_was_hashed(
    folder: Folder,
    scribbler: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    copied_at_once: bool,
) -> None:
    if not copied_at_once:  # but after it was seen to change while it was hashed
        monkeypatch.setattr("trainforge.project.digests._MOST_COPIED", 0)
    folder.write("train.py", "run.log")
    os.truncate(folder.root / "run.log", size)
    scribbler("run.log")

    frozen = folder.freeze()

    assert paths(frozen) == ["run.log", "train.py"]
    log = frozen.entries[0]
    for _ in range(2):
        data = frozen.open(log).read()
        assert (sha256(data), len(data)) == (log.sha256, log.size)


# ------------------------------------------------------------------------------ remembered digests


def test_the_digest_of_a_large_file_is_remembered_until_it_changes(
    folder: Folder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write("weights.pt", text="x" * LARGE).write("train.py")
    monkeypatch.setattr("trainforge.project.digests.SETTLED", ALL_SETTLED)
    first = folder.freeze()
    stored = list(cache.rglob("*.json"))
    assert len(stored) == 1
    assert b"train.py" not in stored[0].read_bytes()
    lie = "0" * 64
    stored[0].write_bytes(stored[0].read_bytes().replace(sha256(b"x" * LARGE).encode(), lie.encode()))

    assert [entry.sha256 for entry in folder.freeze().entries] == [sha256(b"train.py"), lie]

    os.utime(folder.root / "weights.pt", (5, 5))
    assert folder.freeze().entries == first.entries


def test_the_digest_of_a_file_that_was_just_written_is_not_remembered(folder: Folder, cache: Path) -> None:
    folder.write("weights.pt", text="x" * LARGE).freeze()

    assert list(cache.rglob("*.json")) == []


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"weights.pt": [[1,2], 3]}', b"\xff"])
def test_a_damaged_memory_is_an_empty_one(
    folder: Folder, cache: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    monkeypatch.setattr("trainforge.project.digests.SETTLED", ALL_SETTLED)
    folder.write("weights.pt", text="x" * LARGE)
    first = folder.freeze()
    (stored,) = cache.rglob("*.json")
    stored.write_bytes(damage)

    assert folder.freeze().entries == first.entries


def test_a_cache_folder_that_cannot_be_made_does_no_harm(
    folder: Folder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainforge.project.digests.SETTLED", ALL_SETTLED)
    cache.write_text("a file")

    assert folder.write("weights.pt", text="x" * LARGE).freeze().size == LARGE
