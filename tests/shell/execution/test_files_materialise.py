"""The job's own copy of a frozen project."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.shell.execution.disks import reflinking_disk, small_disk
from trainforge.api import FileEntry
from trainforge.project.freeze import freeze
from trainforge.spec import Project
from trainforged.execution.errors import BadManifest, Damaged, MissingContent, NoSpace
from trainforged.execution.files.store import Files


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "files")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "jobs/1/project"


def entry(files: Files, path: str, data: bytes | None = None, mode: int = 0o644) -> FileEntry:
    data = path.encode() if data is None else data
    return FileEntry(path=path, sha256=files.put_bytes(data), mode=mode, size=len(data))


def link(path: str, target: str) -> FileEntry:
    return FileEntry(path=path, target=target)


def contents(folder: Path) -> dict[str, bytes | str]:
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


LARGE = bytes(range(256)) * 1000


def test_files_links_modes_and_folders_are_as_they_were(files: Files, target: Path) -> None:
    entries = [
        entry(files, "train.py"),
        entry(files, "deep/er/run.sh", mode=0o555),
        entry(files, "deep/secret", mode=0o200),
        entry(files, "empty", b""),
        entry(files, "large.bin", LARGE, mode=0o755),
        entry(files, "odd \n näme"),
        link("lib/current", "../deep/er"),
        link("out", "/mnt/sets"),
    ]

    assert files.materialise(entries, (), None, target) == target

    assert contents(target) == {
        "deep/er/run.sh": b"deep/er/run.sh",
        "deep/secret": b"deep/secret",
        "empty": b"",
        "large.bin": LARGE,
        "lib/current": "../deep/er",
        "odd \n näme": "odd \n näme".encode(),
        "out": "/mnt/sets",
        "train.py": b"train.py",
    }
    modes = {
        path: (target / path).stat().st_mode & 0o777
        for path in ("deep/er/run.sh", "deep/secret", "large.bin")
    }
    assert modes == {"deep/er/run.sh": 0o755, "deep/secret": 0o600, "large.bin": 0o755}
    assert os.listdir(target.parent) == ["project"]


def test_no_two_jobs_and_not_the_store_share_what_a_job_can_write(files: Files, tmp_path: Path) -> None:
    entries = [entry(files, "small", b"small"), entry(files, "large", LARGE)]
    first, second = (files.materialise(entries, (), None, tmp_path / f"jobs/{job}/project") for job in (1, 2))

    for path in (first / "small", first / "large"):
        with open(path, "r+b") as file:
            file.write(b"overwritten")

    assert contents(second) == {"small": b"small", "large": LARGE}
    assert [files.read(each.sha256 or "") for each in entries] == [b"small", LARGE]
    assert {(folder / name).stat().st_nlink for folder in (first, second) for name in ("small", "large")} == {
        1
    }


def test_where_the_file_system_can_copies_share_blocks_until_written_to(tmp_path: Path) -> None:
    with reflinking_disk(tmp_path / "disk") as disk:
        files = Files(disk / "files")
        data = os.urandom(20_000_000)
        entries = [entry(files, "weights.pt", data)]

        def used() -> int:
            os.sync()
            status = os.statvfs(disk)
            return (status.f_blocks - status.f_bfree) * status.f_frsize

        before = used()
        copies = [files.materialise(entries, (), None, disk / f"jobs/{job}/project") for job in range(3)]
        assert used() - before < len(data) / 2

        with open(copies[0] / "weights.pt", "r+b") as file:
            file.write(b"overwritten")
        assert (copies[1] / "weights.pt").read_bytes() == data
        assert files.read(entries[0].sha256 or "") == data


def test_what_is_there_is_the_jobs_and_left_alone(files: Files, target: Path) -> None:
    entries = [entry(files, "train.py"), entry(files, "lib.py")]
    files.materialise(entries, (), None, target)
    (target / "train.py").write_text("changed by the job")
    (target / "lib.py").unlink()

    files.materialise(entries, (), None, target)

    assert contents(target) == {"train.py": b"changed by the job"}


def test_an_empty_folder_in_its_place_is_filled(files: Files, target: Path) -> None:
    target.mkdir(parents=True)

    files.materialise([entry(files, "train.py")], (), None, target)

    assert contents(target) == {"train.py": b"train.py"}


def test_an_empty_project_is_an_empty_folder(files: Files, target: Path) -> None:
    assert os.listdir(files.materialise([], (), None, target)) == []
    assert os.listdir(files.materialise([], (), None, target)) == []


def test_what_was_frozen_comes_out_the_same(files: Files, tmp_path: Path, target: Path) -> None:
    root = tmp_path / "original"
    (root / "lib").mkdir(parents=True)
    (root / "lib/model.py").write_text("model")
    (root / "train.py").write_text("train")
    (root / "train.py").chmod(0o750)
    (root / "model.py").symlink_to(root / "lib/model.py")
    (root / "data").mkdir()
    (root / "data/x").write_text("in place")
    project = Project(name="p", link=("data",))
    frozen = freeze(str(root), project)
    for each in frozen.contents().values():
        with frozen.open(each) as file:
            assert files.put_bytes(file.read()) == each.sha256

    files.materialise(frozen.entries, project.link, Path(frozen.root), target)
    (root / "lib/model.py").write_text("edited later")
    (root / "data/x").write_text("seen at once")

    assert contents(target) == {
        "data": str(root / "data"),
        "lib/model.py": b"model",
        "model.py": "lib/model.py",
        "train.py": b"train",
    }
    assert (target / "model.py").read_text() == "model"
    assert (target / "data/x").read_text() == "seen at once"
    assert (target / "train.py").stat().st_mode & 0o777 == 0o750


# ------------------------------------------------------------------------------ linked paths


def test_linked_paths_are_found_where_they_are_now(files: Files, tmp_path: Path, target: Path) -> None:
    root = tmp_path / "original"
    for path in ("sets/a/1", "sets/b/1", "weights.pt", "src/data/load.py"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    (root / "data").symlink_to("/mnt/sets")

    files.materialise(
        [entry(files, "src/data/load.py")], ("sets/*", "*.pt", "data", "absent", "!sets/b"), root, target
    )

    assert contents(target) == {
        "data": str(root / "data"),
        "sets/a": str(root / "sets/a"),
        "src/data/load.py": b"src/data/load.py",
        "weights.pt": str(root / "weights.pt"),
    }


@pytest.mark.parametrize("path", ["data", "data/x"])
def test_what_is_both_frozen_and_linked_is_refused(
    files: Files, tmp_path: Path, target: Path, path: str
) -> None:
    (tmp_path / "original/data").mkdir(parents=True)

    with pytest.raises(BadManifest, match="data"):
        files.materialise([entry(files, path)], ("data",), tmp_path / "original", target)


def test_links_without_a_root_or_out_of_it_are_refused(files: Files, tmp_path: Path, target: Path) -> None:
    with pytest.raises(
        BadManifest, match=r"project\.link: the submission does not say where the project was"
    ):
        files.materialise([], ("data",), None, target)
    with pytest.raises(BadManifest, match=r"project\.link: \.\./x: names nothing inside the project"):
        files.materialise([], ("../x",), tmp_path, target)


# ------------------------------------------------------------------------------ hostile lists


@pytest.mark.parametrize(
    "paths",
    [
        ["/etc/cron.d/x"],
        ["../x"],
        ["a/../../x"],
        ["a/.."],
        [".."],
        ["."],
        ["./a"],
        ["a//b"],
        ["a/"],
        [""],
        ["a\0b"],
        ["\ud800"],
        ["x" * 256],
        ["x/" * 2000 + "x"],
        ["a", "a"],
        ["a", "a/b"],
        ["a/b/c", "a/b"],
    ],
)
def test_a_path_that_leaves_the_folder_or_meets_another_is_refused(
    files: Files, target: Path, paths: list[str]
) -> None:
    sha256 = files.put_bytes(b"x")

    with pytest.raises(BadManifest, match=r"^files: "):
        files.materialise([FileEntry(path=path, sha256=sha256) for path in paths], (), None, target)

    assert not target.parent.exists()


@pytest.mark.parametrize("order", [1, -1])
def test_nothing_is_written_through_a_symbolic_link(
    files: Files, tmp_path: Path, target: Path, order: int
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    entries = [link("a", str(outside)), entry(files, "a/planted")][::order]

    with pytest.raises(BadManifest, match="a/planted: lies below a, which is no folder"):
        files.materialise(entries, (), None, target)

    assert os.listdir(outside) == []


@pytest.mark.parametrize(
    "bad",
    [
        FileEntry(path="a"),
        FileEntry(path="a", sha256="0" * 64, target="b"),
        FileEntry(path="a", sha256="../../x"),
        FileEntry(path="a", sha256="A" * 64),
        FileEntry(path="a", target=""),
        FileEntry(path="a", target="x\0y"),
        FileEntry(path="a", target="b" * 5000),
        FileEntry(path="a", sha256="0" * 64, mode=0o4755),
        FileEntry(path="a", sha256="0" * 64, mode=-1),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(files: Files, target: Path, bad: FileEntry) -> None:
    with pytest.raises(BadManifest, match=r"^files: a: "):
        files.materialise([bad], (), None, target)


# ------------------------------------------------------------------------------ what goes wrong


def test_a_content_that_is_missing_is_named_and_nothing_is_left(files: Files, target: Path) -> None:
    with pytest.raises(MissingContent, match=f"{'0' * 64} is not in the store"):
        files.materialise([entry(files, "a"), FileEntry(path="b", sha256="0" * 64)], (), None, target)

    assert os.listdir(target.parent) == []


@pytest.mark.parametrize("data", [b"right", LARGE])
def test_a_damaged_content_is_noticed_whenever_it_happened(files: Files, tmp_path: Path, data: bytes) -> None:
    entries = [entry(files, "a", data)]
    files.materialise(entries, (), None, tmp_path / "jobs/1/project")
    stored = files.path(entries[0].sha256 or "")
    stored.write_bytes(b"\0" * len(data))

    with pytest.raises(Damaged, match="submit the project again"):
        files.materialise(entries, (), None, tmp_path / "jobs/2/project")

    assert files.missing([entries[0].sha256 or ""]) == (entries[0].sha256,)
    assert not (tmp_path / "jobs/2/project").exists()


def test_all_that_is_damaged_is_named_by_its_path_and_can_be_sent_again_at_once(
    files: Files, target: Path
) -> None:
    entries = [entry(files, f"src/{number}.py") for number in range(6)]
    names = [e.sha256 or "" for e in entries]
    for name in names[1:]:
        files.path(name).write_bytes(b"torn")
    files.path(names[5]).unlink()

    damaged = rf"^src/1\.py \(and 4 more: src/2\.py, src/3\.py, src/4\.py, …\): .*{names[1]} was damaged"
    with pytest.raises(Damaged, match=damaged):
        files.materialise(entries, (), None, target)

    assert files.missing(names) == tuple(names[1:])


def test_a_full_disk_is_said_so_and_nothing_is_left(files: Files, tmp_path: Path) -> None:
    entries = [entry(files, "small"), entry(files, "large", os.urandom(3_000_000))]

    with small_disk(tmp_path / "disk") as disk:
        with pytest.raises(NoSpace):
            files.materialise(entries, (), None, disk / "jobs/1/project")
        assert os.listdir(disk / "jobs/1") == []


def test_several_at_once_make_one(files: Files, target: Path) -> None:
    entries = [entry(files, f"d{number % 7}/{number}") for number in range(100)]
    start = threading.Barrier(6)
    results: list[Path | BaseException] = []

    def lay_out() -> None:
        start.wait()
        try:
            results.append(files.materialise(entries, (), None, target))
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=lay_out) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [target] * 6
    assert len(contents(target)) == 100
    assert os.listdir(target.parent) == ["project"]


KILLED = """
import sys
from pathlib import Path
from trainforge.api import FileEntry
from trainforged.execution.files.store import Files
files = Files(Path(sys.argv[1]))
stored = [files.put_bytes(b"%d" % number) for number in range(5)]
entries = [FileEntry(path=f"f{number}", sha256=stored[number % 5]) for number in range(20_000)]
print("begins", flush=True)
files.materialise(entries, (), None, Path(sys.argv[2]))
"""


def test_what_a_killed_process_left_half_done_is_cleared_and_done_again(
    files: Files, tmp_path: Path, target: Path
) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "files"), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while not any(target.parent.glob(".project.*.new/f100")):
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert not target.exists()

    files.materialise([entry(files, "train.py")], (), None, target)

    assert contents(target) == {"train.py": b"train.py"}
    assert os.listdir(target.parent) == ["project"]


def test_what_another_is_still_at_is_not_cleared(files: Files, target: Path) -> None:
    busy = target.parent / ".project.0.new"
    busy.mkdir(parents=True)
    lock = os.open(busy, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)

    files.materialise([entry(files, "train.py")], (), None, target)

    assert busy.exists()
    os.close(lock)
