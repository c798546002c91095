"""Progress read from what a script prints, where it reports nothing."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.shell.event_writer import EventWriter
from tests.shell.storage.following.recording import Job, line
from trainforge.api import Progress
from trainforged.storage.following import outputprogress
from trainforged.storage.following.outputlines import LONGEST_LINE, latest, read
from trainforged.storage.following.outputprogress import WINDOW, OutputFollower
from trainforged.storage.following.records import RecordReader
from trainforged.storage.following.tensorboard import EventFollower
from trainforged.storage.metrics.store import MetricStore
from trainforged.storage.recordlines import Report

BAR = " 45%|████▌     | 450/1000 [00:10<00:12, 43.2it/s, loss=1.2]"


def at(step: float | None = None, **fields: float) -> Report:
    position = {name: fields.pop(name) for name in ("steps", "epoch", "epochs") if name in fields}
    return Report(time=0.0, step=step, metrics=fields, **position)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("loss=1.2 step=300 epoch=3/90", at(300, epoch=3, epochs=90, loss=1.2)),
        ("[12:30:01] INFO train step=5, lr=1e-3, loss=.5.", at(5, lr=1e-3, loss=0.5)),
        ("Epoch [3/90], Step [10/100], Loss: 0.5432", at(10, epoch=3, epochs=90, Loss=0.5432)),
        ("step 5000/100000 | tokens 3", at(5000, steps=100000)),
        ("step 20 of 80", at(20, steps=80)),
        (
            "{'loss': 0.5, 'grad_norm': 1.2, 'learning_rate': 5e-05, 'epoch': 0.37}",
            at(epoch=0.37, loss=0.5, grad_norm=1.2, learning_rate=5e-05),
        ),
        ("Epoch 12: val_loss: 0.33 val_acc: 91.2%", at(epoch=12, val_loss=0.33, val_acc=91.2)),
        ("loss=inf", at(loss=math.inf)),
        (BAR, at(450, steps=1000, loss=1.2)),
        ("Epoch 3/90: " + BAR, at(450, epoch=3, epochs=90, loss=1.2)),
        ("  0%|          | 0/100 [00:00<?, ?it/s]", at(0, steps=100)),
        ("100%|##########| 7/7 [01:02:03<00:00,  5.01s/it]", at(7, steps=7)),
        ("100%|██████████| 170498071/170498071 [00:05<00:00, 30.1MB/s]", None),
        ("listening on host=3 port:3000 x=4", None),
        ("time=12:30:01 version=1.2.3", None),
        ("http://example.org/step=3", None),
        ("step=-3", None),
        ("step=nan", None),
        ("Traceback (most recent call last):", None),
        ("", None),
    ],
)
def test_what_a_line_says(text: str, expected: Report | None) -> None:
    assert read(text, 0.0) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"step=1 loss=3\nstep=2 acc=0.5\nother words\n", at(2, loss=3, acc=0.5)),
        (b"\r 10%|#   | 1/10 [0<9, 1it/s]\r 20%|##  | 2/10 [0<9, 1it/s]", at(2, steps=10)),
        (b"\x1b[2K\x1b[1;32mstep=3\x1b[0m \x1b]0;title\x07loss=2\r\n", at(3, loss=2)),
        (b"step=7 loss=1.23", None),  # not finished: perhaps 1.234
        (b"epoch=1 step=900\nepoch=2\n", at(epoch=2)),
        (b"step=3 " + b"x" * LONGEST_LINE + b"\nloss=1\n", at(loss=1)),
        (b"\xff\xfe\0step=4\n", at(4)),
    ],
)
def test_the_newest_of_each_counts(data: bytes, expected: Report | None) -> None:
    assert latest(data, 0.0) == expected


@given(st.binary(max_size=300) | st.text("step=loss:ep0123./%|[]<, \r\n\x1b", max_size=300).map(str.encode))
def test_no_output_raises(data: bytes) -> None:
    report = latest(data, 0.0)
    assert report is None or report.step is None or report.step >= 0


# ---------------------------------------------------------------- jobs


class Scene:
    def __init__(self, folder: Path) -> None:
        self.store = MetricStore(folder / "metrics.db").open()
        self.reader = RecordReader(self.store)
        self.job = Job(folder)
        self.follower = OutputFollower(self.reader, self.clock)
        self.time = 0.0

    def clock(self) -> float:
        self.time += 100
        return self.time

    def prints(self, data: bytes, name: str = "output.log") -> None:
        with (self.job.dir / name).open("ab") as file:
            file.write(data)

    def look(self) -> Progress | None:
        self.follower.gather([self.job.live])
        return self.reader.progress(1)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.store.close()


def shown(progress: Progress | None) -> tuple[float | None, dict[str, float | None]]:
    assert progress is not None
    return progress.step, progress.metrics


def test_what_a_silent_script_prints_is_its_progress(scene: Scene) -> None:
    assert scene.look() is None
    scene.prints(b"hello\nstep=1/50 loss=3.5\n")
    assert shown(scene.look()) == (1, {"loss": 3.5})
    scene.prints(b"step=5/50 loss=nan\n")
    progress = scene.look()
    assert shown(progress) == (5, {"loss": None})
    assert progress is not None
    assert progress.fraction == 0.1
    assert scene.store.names(1) == ()  # no series


def test_of_several_ranks_the_first_ones_output_counts(scene: Scene) -> None:
    scene.prints(b"step=9 loss=9\n")
    scene.prints(b"step=4 loss=4\n", "rank-0.log")
    assert shown(scene.look()) == (4, {"loss": 4.0})


def test_a_report_counts_and_what_is_printed_does_not(scene: Scene) -> None:
    scene.prints(b"step=9 loss=9\n")
    assert shown(scene.look()) == (9, {"loss": 9.0})
    scene.job.write(line(time=time.time(), step=2, metrics={"acc": 0.5}))
    scene.reader.gather([scene.job.live])
    scene.prints(b"step=10 loss=8\n")
    assert shown(scene.look()) == (2, {"acc": 0.5})


def test_tensorboard_files_count_before_what_is_printed(scene: Scene, tmp_path: Path) -> None:
    scene.prints(b"step=9 loss=9\n")
    scene.look()
    (scene.job.dir / "launch.json").write_text('{"token": "x"}')
    os.utime(scene.job.dir / "launch.json", (1, 1))
    EventWriter(tmp_path / "jobs" / "1" / "project").scalar("train", 1.5, 3)
    EventFollower(scene.reader, lambda job: [tmp_path / "jobs" / "1" / "project"]).gather([scene.job.live])
    scene.prints(b"step=11 loss=9\n")
    assert shown(scene.look()) == (3, {"train": 1.5})


def test_only_the_end_is_read_however_much_there_is(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []

    def watched(data: bytes, time: float) -> Report | None:
        looked_at.append(len(data))
        return latest(data, time)

    monkeypatch.setattr(outputprogress, "latest", watched)
    scene.prints(b"epoch=77\n" + b"step=1 loss=2\n" * 2_000_000 + b"step=123456 loss=0.5\n")
    assert shown(scene.look()) == (123456, {"loss": 0.5})
    scene.look()
    assert len(looked_at) == 1  # nothing new, nothing read
    assert looked_at[0] <= WINDOW


def test_a_line_that_the_window_cuts_is_left_out(scene: Scene) -> None:
    scene.prints(b"step=5000 " + b"." * (WINDOW - 5) + b"\n")
    assert scene.look() is None


def test_output_that_was_rotated_is_followed(scene: Scene) -> None:
    scene.prints(b"step=1\n" + b"x\n" * 100)
    scene.look()
    (scene.job.dir / "output.log").rename(scene.job.dir / "output.head.log")
    scene.prints(b"step=2\n")
    assert shown(scene.look())[0] == 2


def test_what_is_no_file_is_not_read(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("step=3\n")
    (scene.job.dir / "rank-0.log").symlink_to(tmp_path / "secret")
    os.mkfifo(scene.job.dir / "output.log")
    assert scene.look() is None
