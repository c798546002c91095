"""Ranks × augmentation × place of interruption: whichever it is, a run that goes on ends with the same bits.

With clipping, a mean of weights and, beside `none`, mixing. A few cells are tried each time; the rest of the
table, and twenty kills of a whole training, with `pytest -m slow tests/training`.
"""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.runs import HARD, Job, Runs, differences, until, weights_and_progress
from trainforge import protocol

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]

STEPS = 10  # in two epochs of five
PLACES = (1, 3, 5, 8)  # after the first step, within an epoch, between two, within the second
AUGMENTATIONS = {
    "none": {"MIXUP": False, "CUTMIX": False},
    "light": {},
    "heavy": {},
}
OFTEN = {(1, "none"): (3,), (2, "light"): (5,), (4, "heavy"): (1, 8)}
CELLS = [
    pytest.param(ranks, name, place, marks=() if place in OFTEN.get((ranks, name), ()) else pytest.mark.slow)
    for ranks in (1, 2, 4)
    for name in AUGMENTATIONS
    for place in PLACES
]


def settings(augmentation: str) -> dict[str, Any]:
    return {**HARD, "AUGMENTATION": augmentation, **AUGMENTATIONS[augmentation], "BATCH_SIZE": 16}


@pytest.fixture(scope="module")
def wholes() -> dict[tuple[int, str], tuple[Job, dict[str, Any]]]:
    """Runs that were never interrupted, and saved after each step."""
    return {}


def whole(
    wholes: dict[tuple[int, str], tuple[Job, dict[str, Any]]], runs: Runs, ranks: int, augmentation: str
) -> tuple[Job, dict[str, Any]]:
    if (ranks, augmentation) not in wholes:
        job = runs.job(**settings(augmentation), CHECKPOINT_INTERVAL="1 step")
        job.complete(ranks, **{protocol.CHECKPOINT_KEEP: STEPS})
        wholes[ranks, augmentation] = job, job.state()
    return wholes[ranks, augmentation]


@pytest.mark.parametrize(("ranks", "augmentation", "place"), CELLS)
def test_the_table(
    runs: Runs,
    wholes: dict[tuple[int, str], tuple[Job, dict[str, Any]]],
    ranks: int,
    augmentation: str,
    place: int,
) -> None:
    job, expected = whole(wholes, runs, ranks, augmentation)
    interrupted = job.folder / "checkpoints" / f"step-{place:010d}"

    continued = runs.job(**settings(augmentation))
    run = continued.complete(ranks, **{protocol.RESUME_FROM: interrupted})

    assert run.records("resumed")[0]["step"] == place
    assert differences(weights_and_progress(expected), weights_and_progress(continued.state())) == []


@pytest.mark.slow
def test_killed_twenty_times_a_training_loses_one_interval_at_most_and_ends_with_the_same_bits(
    runs: Runs,
) -> None:
    interval, steps = 3, 300
    often = {**settings("heavy"), "EPOCHS": steps // 5, "CHECKPOINT_INTERVAL": f"{interval} steps"}
    expected = runs.job(**often)
    expected.complete(2)

    chance, job, reached, written = random.Random(11), runs.job(**often), 0, 0
    for _ in range(20):
        run = job.start(2)
        until(lambda run=run: run.records("report") or run.left, "a step")
        time.sleep(chance.uniform(0, 0.5))  # when it dies is what is tried
        chance.shuffle(run.processes)
        for process in run.processes:
            process.kill()
        assert {process.exitcode for process in run.processes if process.join() is None} == {-signal.SIGKILL}
        resumed = next((record["step"] for record in run.records("resumed")), 0)
        assert reached - resumed <= interval, "no more than that is lost"
        assert resumed >= written, "a checkpoint that was told of is never lost"
        skipped = [record["problem"] for record in run.records("checkpoint_skipped")]
        assert all("not finished" in problem for problem in skipped), skipped
        reached = run.records("report")[-1]["step"]
        written = max([resumed, *(record["step"] for record in run.records("checkpoint"))])
    assert 2 * interval < reached < steps, "it got on, and was not done"
    job.complete(2)
    assert differences(weights_and_progress(expected.state()), weights_and_progress(job.state())) == []
    assert torch.isfinite(next(iter(job.state()["objects"]["model"].values()))).all()


def test_what_a_kill_leaves_half_written_is_passed_over_with_a_word(runs: Runs) -> None:
    job = runs.job(BATCH_SIZE=16, CHECKPOINT_INTERVAL="4 steps")
    job.complete(MAX_STEPS=4, **{protocol.CHECKPOINT_KEEP: 3})
    damaged = Path(max((job.folder / "checkpoints").glob("step-*"))) / "state.pt"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    run = job.complete(MAX_STEPS=6)
    assert run.records("resumed")[0]["step"] == 2
    assert "state.pt is damaged" in run.output
