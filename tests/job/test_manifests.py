"""Which checkpoints a folder holds, and which of them can be used: whatever a job has put there."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainforge.in_job import manifests
from trainforge.in_job.manifests import Checkpoint, File


def lay(folder: Path, step: int, time: float, name: str | None = None, **fields: Any) -> Path:
    """A whole checkpoint."""
    path = folder / (name or manifests.folder_name(step))
    path.mkdir()
    files = []
    for file in ("state.pt", "rank-0.pt"):
        data = f"{file} of {step}".encode()
        (path / file).write_bytes(data)
        files.append(File(file, len(data), hashlib.sha256(data).hexdigest()))
    made = Checkpoint(str(path), step, time, world_size=1, files=tuple(files))._replace(**fields)
    (path / "manifest.json").write_bytes(manifests.to_json(made))
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = lay(tmp_path, 40, 12.5, metrics={"metric": 0.75}, best=True)
    (found,) = manifests.find_checkpoints(str(tmp_path))
    assert found.path == str(path) == str(tmp_path / "step-0000000040")
    assert found[1:4] == (40, 12.5, 1)
    assert (found.metrics, found.best, found.problem) == ({"metric": 0.75}, True, None)
    assert found.size == sum((path / name).stat().st_size for name in ("state.pt", "rank-0.pt"))
    assert manifests.damage(found) is None
    shape = json.loads((path / "manifest.json").read_text())
    assert list(shape) == ["format", "step", "time", "world_size", "files", "metrics", "best"]
    assert list(shape["files"][0]) == ["name", "size", "sha256"]


def test_they_come_in_the_order_they_were_published(tmp_path: Path) -> None:
    for step, time in ((9, 1.0), (10, 3.0), (5, 2.0)):
        lay(tmp_path, step, time)
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / ".trainforge-removing-step-0000000001-5").mkdir()
    assert [found.step for found in manifests.find_checkpoints(str(tmp_path))] == [9, 5, 10]
    newest = manifests.newest_whole(str(tmp_path), verify=True)
    assert newest is not None
    assert newest.step == 10
    assert manifests.find_checkpoints(str(tmp_path / "nowhere")) == []
    assert manifests.newest_whole(str(tmp_path / "nowhere"), verify=False) is None


def test_the_newest_best_is_the_best(tmp_path: Path) -> None:
    lay(tmp_path, 1, 1.0, best=True)
    lay(tmp_path, 2, 2.0, best=True)
    lay(tmp_path, 3, 3.0)
    best = manifests.best_whole(str(tmp_path), verify=True)
    assert best is not None
    assert best.step == 2


def test_one_that_lacks_only_its_name_counts(tmp_path: Path) -> None:
    lay(tmp_path, 1, 1.0)
    lay(tmp_path, 2, 2.0, name=".trainforge-saving-0000000002-abcdef01-1")
    newest = manifests.newest_whole(str(tmp_path), verify=True)
    assert newest is not None
    assert newest.step == 2


def spoil_bytes(path: Path) -> None:
    data = bytearray((path / "state.pt").read_bytes())
    data[3] ^= 1
    (path / "state.pt").write_bytes(data)


def make_fifo(path: Path) -> None:
    (path / "manifest.json").unlink()
    os.mkfifo(path / "manifest.json")


DAMAGES = {
    "no manifest": (lambda path: (path / "manifest.json").unlink(), "it was not finished: no manifest.json"),
    "cut": (lambda path: os.truncate(path / "state.pt", 3), "state.pt has 3 of 13 bytes"),
    "missing": (lambda path: (path / "rank-0.pt").unlink(), "rank-0.pt is missing"),
    "no manifest's end": (lambda path: os.truncate(path / "manifest.json", 30), "manifest.json is damaged"),
    "a fifo": (make_fifo, "manifest.json cannot be read: not a plain file"),
    "no access": (
        lambda path: ((path / "state.pt").unlink(), (path / "state.pt").symlink_to("rank-0.pt")),
        "state.pt is not a file",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_says_so(tmp_path: Path, damage: str) -> None:
    spoil, problem = DAMAGES[damage]
    lay(tmp_path, 1, 1.0)
    spoil(lay(tmp_path, 2, 2.0))
    damaged = next(found for found in manifests.find_checkpoints(str(tmp_path)) if found.path.endswith("2"))
    assert damaged.problem == problem
    assert manifests.damage(damaged) == problem
    newest = manifests.newest_whole(str(tmp_path), verify=False)
    assert newest is not None
    assert newest.step == 1


def test_damaged_bytes_are_seen_by_verifying(tmp_path: Path) -> None:
    lay(tmp_path, 1, 1.0)
    spoil_bytes(lay(tmp_path, 2, 2.0))
    unverified = manifests.newest_whole(str(tmp_path), verify=False)
    verified = manifests.newest_whole(str(tmp_path), verify=True)
    assert unverified is not None
    assert verified is not None
    assert (unverified.step, verified.step) == (2, 1)
    assert manifests.damage(unverified) == "state.pt is damaged: its contents do not match the manifest"


def test_a_manifest_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    for name in ("../secret", "/etc/passwd", "..", "", "manifest.json", "\ud800", "a\0"):
        path = lay(tmp_path, 1, 1.0, files=(File(name, 1, "0" * 64),))
        assert manifests.read_checkpoint(str(path)).problem == "manifest.json is damaged"
        (path / "manifest.json").unlink()
        for file in path.iterdir():
            file.unlink()
        path.rmdir()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
manifest_like = st.fixed_dictionaries(
    {},
    optional={
        "format": st.just(1) | json_values,
        "step": st.integers() | json_values,
        "time": st.floats(0, 1e9) | json_values,
        "world_size": st.just(1) | json_values,
        "files": st.lists(
            st.fixed_dictionaries({"name": st.text(max_size=3), "size": json_values, "sha256": json_values})
            | json_values,
            max_size=2,
        )
        | json_values,
        "metrics": json_values,
        "best": json_values,
    },
)


@settings(max_examples=150, deadline=None)
@given(content=manifest_like.map(json.dumps).map(str.encode) | st.binary(max_size=60))
def test_no_manifest_makes_the_reader_fail(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "hostile" / "step-1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_bytes(content)
    for found in manifests.find_checkpoints(str(folder.parent)):
        manifests.damage(found)
        assert found.problem or found.step is not None


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"time": 1' + b"0" * 400 + b', "format": 1, "step": 1}', b"\xff"]
)
def test_a_hostile_manifest_is_damaged(tmp_path: Path, content: bytes) -> None:
    path = lay(tmp_path, 1, 1.0)
    (path / "manifest.json").write_bytes(content)
    assert manifests.read_checkpoint(str(path)).problem == "manifest.json is damaged"
