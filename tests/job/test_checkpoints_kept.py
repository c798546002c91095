"""Which checkpoints are kept, and what damage and full disks do to them."""

from __future__ import annotations

import math
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.job.attempt import Attempt
from trainforge import protocol
from trainforge.in_job import manifests

torch = pytest.importorskip("torch")
from tests.job.saving import folder, resumed, saved, steps  # noqa: E402
from trainforge import Checkpointer  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("in_attempt")]

# ---------------------------------------------------------------- which are kept


def test_the_newest_are_kept(attempt: Attempt) -> None:
    saved(attempt, *range(1, 8))
    assert steps(attempt) == [5, 6, 7]
    saved(attempt, 8, keep=1)
    assert steps(attempt) == [8]
    assert sorted(os.listdir(attempt.checkpoints)) == ["step-0000000008"]


def test_the_job_says_how_many(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(protocol.CHECKPOINT_KEEP, "2")
    saved(attempt, *range(1, 5))
    assert steps(attempt) == [3, 4]


def test_the_best_is_kept_too(attempt: Attempt) -> None:
    ckpt = Checkpointer(state={}, keep=2)
    metrics = [0.1, 0.9, 0.5, math.nan, 0.9, 0.2]
    for step, metric in enumerate(metrics):
        ckpt.save(step, metric=metric)
    ckpt.close()
    assert steps(attempt) == [1, 4, 5]
    best = manifests.best_whole(str(attempt.checkpoints), verify=True)
    assert best is not None
    assert (best.step, best.metrics) == (1, {"metric": 0.9})
    assert [(record["best"], record["metrics"]) for record in attempt.records("checkpoint")[:4]] == [
        (True, {"metric": 0.1}),
        (True, {"metric": 0.9}),
        (False, {"metric": 0.5}),
        (False, None),
    ]
    ckpt = Checkpointer(state={}, keep=2)  # a later attempt knows it still
    ckpt.resume()
    ckpt.save(6, metric=0.8)
    ckpt.save(7, metric=1.0)
    ckpt.close()
    assert steps(attempt) == [6, 7]


def test_saving_a_step_again_replaces_it(attempt: Attempt) -> None:
    saved(attempt, 1, 2)
    state = {"again": True}
    ckpt = Checkpointer(state=state)
    ckpt.save(2)
    ckpt.save(2)
    ckpt.close()
    assert resumed() == (2, {"again": True})
    assert steps(attempt) == [1, 2]


def test_a_step_saved_again_lower_down_is_the_newest(attempt: Attempt) -> None:
    saved(attempt, 10, 20, 30)
    saved(attempt, 15)
    assert steps(attempt) == [20, 30, 15]
    assert resumed() == (15, {"step": 15})


def test_what_others_left_in_the_folder_stays(attempt: Attempt) -> None:
    foreign = folder(attempt, 2)
    foreign.mkdir(parents=True)
    (foreign / "weights").write_text("of another tool")
    (attempt.checkpoints / "notes").write_text("mine")
    saved(attempt, 1, 2, 3, 4)
    assert steps(attempt) == [2, 3, 4]
    (moved,) = attempt.checkpoints.glob("step-0000000002.old-*")
    assert (moved / "weights").read_text() == "of another tool"
    assert (attempt.checkpoints / "notes").exists()


def test_what_a_killed_run_left_is_removed(attempt: Attempt) -> None:
    for name in (".trainforge-saving-0000000001-0badf00d-1", ".trainforge-removing-step-0000000001-7"):
        (attempt.checkpoints / name).mkdir(parents=True)
        (attempt.checkpoints / name / "state.pt.tmp").write_text("half")
    saved(attempt, 1)
    assert os.listdir(attempt.checkpoints) == ["step-0000000001"]


# ---------------------------------------------------------------- damage


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "bytes": (lambda path: flip(path / "state.pt"), "state.pt is damaged"),
    "random states": (lambda path: flip(path / "rank-0.pt"), "rank-0.pt is damaged"),
    "cut": (lambda path: os.truncate(path / "state.pt", 100), "state.pt has 100 of"),
    "rank missing": (lambda path: (path / "rank-0.pt").unlink(), "rank-0.pt is missing"),
    "manifest missing": (lambda path: (path / "manifest.json").unlink(), "it was not finished"),
    "manifest cut": (lambda path: os.truncate(path / "manifest.json", 9), "manifest.json is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_skipped_with_a_word(
    attempt: Attempt, capfd: pytest.CaptureFixture[str], damage: str
) -> None:
    spoil, problem = DAMAGES[damage]
    saved(attempt, 1, 2, 3)
    spoil(folder(attempt, 3))
    spoil(folder(attempt, 2))
    assert resumed() == (1, {"step": 1})
    skipped = attempt.records("checkpoint_skipped")
    assert {record["path"] for record in skipped} == {str(folder(attempt, 3)), str(folder(attempt, 2))}
    assert all(record["problem"].startswith(problem) for record in skipped)
    assert capfd.readouterr().err.count("is skipped: " + problem) == 2

    saved(attempt, 2, 3, 4)  # goes on over the damaged ones
    assert steps(attempt) == [2, 3, 4]


def test_none_whole_is_the_beginning(attempt: Attempt) -> None:
    saved(attempt, 1)
    flip(folder(attempt, 1) / "state.pt")
    assert resumed() == (0, {})
    assert attempt.records("resumed") == []


def test_where_to_resume_from_is_tried_first(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(attempt, 5)
    elsewhere = attempt.folder / "another"
    shutil.move(folder(attempt, 5), elsewhere)
    saved(attempt, 1, 2)
    monkeypatch.setenv(protocol.RESUME_FROM, str(elsewhere))
    assert resumed() == (5, {"step": 5})
    flip(elsewhere / "state.pt")
    assert resumed() == (2, {"step": 2})
    flip(folder(attempt, 2) / "state.pt")
    monkeypatch.setenv(protocol.RESUME_FROM, str(folder(attempt, 2)))
    assert resumed() == (1, {"step": 1})
    paths = [Path(record["path"]).name for record in attempt.records("checkpoint_skipped")]
    assert paths == ["another", "step-0000000002"]  # the last one is not looked at twice


# ---------------------------------------------------------------- a full disk


@pytest.mark.parametrize("size", [1000, 100_000, 7_999_000])
def test_a_full_disk_is_survived(
    attempt: Attempt, small_disk: Callable[[int], None], capfd: pytest.CaptureFixture[str], size: int
) -> None:
    state: dict[str, Any] = {"big": torch.zeros(2_000_000)}
    ckpt = Checkpointer(state=state)
    ckpt.save(1)
    ckpt.close()
    small_disk(size)
    ckpt.save(2)
    ckpt.close()
    small_disk(resource.RLIM_INFINITY)
    assert steps(attempt) == [1]
    assert os.listdir(attempt.checkpoints) == ["step-0000000001"]
    assert "step-0000000002 was not written: File too large; training goes on" in capfd.readouterr().err
    ckpt.save(3)
    ckpt.close()
    assert steps(attempt) == [1, 3]


def test_a_folder_that_cannot_be_made_is_survived(attempt: Attempt) -> None:
    attempt.checkpoints.write_text("a file is in the way")
    ckpt = Checkpointer(state={})
    assert ckpt.resume() == 0
    ckpt.save(1)
    ckpt.close()
    (record,) = attempt.records("checkpoint_skipped")
    assert record["problem"] == "not written: Not a directory"


def test_a_state_that_cannot_be_written_is_raised_by_the_next_call(attempt: Attempt) -> None:
    class Unpicklable:
        def state_dict(self) -> Any:
            return {"f": lambda: 0}

        def load_state_dict(self, state: Any) -> None: ...

    ckpt = Checkpointer(thing=Unpicklable())
    ckpt.save(1)
    with pytest.raises(Exception, match="pickle"):
        ckpt.close()
    ckpt.close()
    assert os.listdir(attempt.checkpoints) == []
