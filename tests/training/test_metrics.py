"""Where the time goes, and the files of TensorBoard."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import fit
from metrics import Board, Scores, Stopwatch, Times, summary
from ranks import Ranks
from settings import Settings
from tests.training.runs import Runs
from utils import keep_record

pytestmark = pytest.mark.torch

ALONE = Ranks(0, 1, torch.device("cpu"))


def test_time_is_counted_for_what_it_was_spent_on() -> None:
    watch = Stopwatch(ALONE)
    began = time.perf_counter()
    watch.mark()
    watch.mark("data")
    watch.mark("compute")
    watch.mark()  # what came before belongs to nothing
    watch.mark("compute")
    whole = time.perf_counter() - began
    (times,) = watch.read()
    assert 0 < times.data < whole
    assert 0 < times.compute < whole
    assert times.communication == 0
    assert sum(times) < whole
    assert watch.read() == [Times()]


def test_synchronisation_is_what_waiting_for_others_leaves() -> None:
    assert Times(data=1, compute=8, communication=1).efficiency == pytest.approx(0.9)
    assert Times().efficiency == 1
    train, test = Scores(loss=5, top1=4, images=10), Scores(top1=5, images=20)
    several = summary(train, test, 2.0, [Times(0, 9, 1), Times(0, 3, 1)])
    alone = "loss 0.500, accuracy 40.0%, on test images 25.0%; 5 images/s"
    assert several == f"{alone}; synchronisation efficiency 90.0%, 75.0%"
    assert summary(train, test, 2.0, [Times(0, 9, 0)]) == alone


def test_each_rank_says_where_its_time_goes(runs: Runs) -> None:
    run = runs.job(EPOCHS=1, REPORT_INTERVAL=5).complete(2)
    training = run.records("report")[0]["metrics"]
    assert 0 < training["communication_share"] < 1
    assert 0 < training["sync_efficiency"] < 1
    assert "synchronisation efficiency " in run.output
    other = run.records("report", rank=1)[0]["metrics"]
    assert other["communication_share"] != training["communication_share"]
    assert other["loss"] == training["loss"]


def test_tensorboard_gets_what_is_reported(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        for first in (0, 3):
            board = Board(first, wanted=True)
            for step in (first + 1, first + 2, first + 3, first + 4):
                board.add(step, {"loss": 10.0 * first + step})
            board.close()
    finally:
        os.chdir(here)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in events] == [
        (1, 1), (2, 2), (3, 3), (4, 34), (5, 35), (6, 36), (7, 37)
    ]  # fmt: skip


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file grows."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_the_files_of_tensorboard_but_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.chdir(tmp_path)
    ended: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", ended.append)  # of TensorBoard's own thread
    with full_disk():
        board = Board(0, wanted=True)
        for step in range(1000):
            board.add(step, {"loss": 1.0})
        board.close()
        board.add(1001, {"loss": 1.0})
    assert capsys.readouterr().err.count("TensorBoard's files end here: File too large") == 1


def test_a_full_disk_keeps_no_notes_and_ends_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with full_disk():
        keep_record(str(tmp_path), Settings.read({}), "a run")
        fit.write_note(str(tmp_path), 64)
    said = capsys.readouterr().err
    assert "settings.json was not written: File too large" in said
    assert "batch-size-per-gpu was not written: File too large" in said
    assert fit.read_note(str(tmp_path)) == 0
