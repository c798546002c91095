"""What a run says of itself, and how it refuses."""

from __future__ import annotations

import json
import re

import pytest

from settings import knobs
from tests.training.runs import DEADLINE, Runs, expect_memory_to_be_kept, nursery

pytestmark = pytest.mark.torch


def test_a_run_reports_its_steps_and_its_epochs(runs: Runs) -> None:
    run = runs.job(GRADIENT_CLIPPING=True, REPORT_INTERVAL=4).complete()
    reports = run.records("report")
    assert [report["step"] for report in reports] == [4, 8, 10, 10, 12, 16, 20, 20]
    assert {(report["steps"], report["epochs"]) for report in reports} == {(20, 2)}
    assert [report["epoch"] for report in reports] == [0, 0, 0, 1, 1, 1, 1, 2]
    training, evaluation = reports[0]["metrics"], reports[3]["metrics"]
    shares = {"data_share", "compute_share", "communication_share"}
    assert training.keys() == {
        "loss", "accuracy", "accuracy_top5", "lr", "images_per_second", "grad_norm", *shares
    }  # fmt: skip
    assert 0.9 < sum(training[share] for share in shares) <= 1.01
    assert evaluation.keys() == {"val_loss", "val_accuracy", "val_accuracy_top5", "epoch_seconds"}
    assert 0 <= training["accuracy"] <= training["accuracy_top5"] <= 1
    assert [phase["name"] for phase in run.records("phase")] == ["evaluate"] * 4
    assert "epoch 2/2: loss " in run.output


def test_what_a_run_was_told_is_kept_with_the_fingerprint_of_its_images(runs: Runs) -> None:
    job = runs.job(MAX_STEPS=1)
    run = job.complete()
    kept = json.loads((job.folder / "checkpoints" / "settings.json").read_text())
    assert kept["knobs"]["MAX_STEPS"] == {"value": "1", "source": "environment"}
    assert kept["knobs"].keys() == {name.upper() for name, _ in knobs()}
    assert re.search(r"resnet20 with sgd on cifar100 \([0-9a-f]{12}\)", kept["run"])
    assert kept["run"] in run.output


def test_it_learns(runs: Runs) -> None:
    run = runs.job(EPOCHS=6, LEARNING_RATE=0.05).complete()
    assert run.records("report")[-1]["metrics"]["val_accuracy"] > 0.35  # of ten colours; chance is 0.1


@pytest.mark.parametrize(
    ("interval", "saved"),
    [
        ("2", [10, 20]),
        ("1", [5, 10, 15, 20]),
        ("0.7", [4, 7, 11, 14, 18, 20]),
        ("9 steps", [5, 9, 14, 18, 20]),
        ("1 step", [*range(1, 21)]),
    ],
)
def test_checkpoints_are_made_twice_in_every_interval_and_at_the_end(
    runs: Runs, interval: str, saved: list[int]
) -> None:
    run = runs.job(CHECKPOINT_INTERVAL=interval).complete()
    assert [record["step"] for record in run.records("checkpoint")] == saved


def test_the_best_epoch_is_told_by_its_accuracy(runs: Runs) -> None:
    run = runs.job(CHECKPOINT_INTERVAL=1).complete()
    scores = [report["metrics"].get("val_accuracy") for report in run.records("report")]
    kept = [record["metrics"] for record in run.records("checkpoint")]
    assert kept == [x for score in scores if score is not None for x in (None, {"metric": score})]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_bad_knob_is_refused_once_and_without_a_traceback(runs: Runs, ranks: int) -> None:
    run = runs.job(MODEL="resnet19", MIXUP="much").start(ranks)
    assert run.end() == [2] * ranks
    assert run.output.count("did you mean resnet18?") == 1
    assert "MIXUP: expected a number above 0, true (0.2) or false, found `much`" in run.output
    assert "Traceback" not in run.output


@pytest.mark.parametrize("ranks", [1, 2])
def test_missing_images_are_refused_once_and_without_a_traceback(runs: Runs, ranks: int) -> None:
    closed = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    run = runs.job(DATA_DIR="elsewhere", **closed).start(ranks)
    assert run.end() == [2] * ranks, run.output
    assert run.output.count("cifar100 is not in ") == 1
    assert "Traceback" not in run.output


def test_a_batch_larger_than_the_data_is_refused(runs: Runs) -> None:
    run = runs.job(BATCH_SIZE=81).start()
    assert run.end() == [2]
    assert "BATCH_SIZE: 81 is more than the 80 images" in run.output


def test_a_loss_that_is_no_number_ends_the_run_with_advice(runs: Runs) -> None:
    run = runs.job(LEARNING_RATE="1e30", WARMUP_EPOCHS=0).start()
    assert run.end() == [1]
    assert "lower LEARNING_RATE (it is 1e+30)" in run.output
    assert "Traceback" not in run.output
    assert run.records("checkpoint") == []


def test_memory_of_the_cpu_is_kept_from_step_to_step(runs: Runs) -> None:
    process = nursery.Process(target=expect_memory_to_be_kept, args=(18,))
    process.start()
    process.join(DEADLINE)
    assert process.exitcode == 0
