"""Compiled passes are trusted after a trial, and whatever happens in it changes nothing of a training.

The compiler is a stand-in (`stand_in_for_the_compiler`), the runs are real."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.training.runs import Job, Run, Runs, differences, until, weights_and_progress

pytestmark = pytest.mark.torch

LONG = {"EPOCHS": 10, "MAX_STEPS": 4, "OPTIMIZER": "adamw", "EMA": True}  # long enough for `auto`
TRIAL = 4  # calls: three before, and the one that is compared


def bits(job: Job) -> dict[str, Any]:
    """All that was trained, whether by compiled passes or not."""
    state = weights_and_progress(job.state())
    return {**state, "progress": {**state["progress"], "compiled": None}}


def knob(run: Run, name: str = "COMPILE") -> str:
    return next(line for line in run.output.splitlines() if line.split()[:1] == [name])


@pytest.fixture
def plain(runs: Runs) -> Job:
    job = runs.job(**LONG, COMPILE=False)
    job.complete()
    return job


def test_passes_that_do_what_plain_ones_do_are_used(runs: Runs, plain: Job) -> None:
    job = runs.job(**LONG)
    run = job.complete(STAND_IN_COMPILER="works")
    assert "auto: 10 epochs, 1 GPU" in knob(run)
    assert run.output.count("compiled call") == TRIAL + LONG["MAX_STEPS"]
    assert job.state()["objects"]["progress"]["compiled"] is True
    assert differences(bits(job), bits(plain)) == []
    assert [phase["name"] for phase in run.records("phase")][:2] == ["compile"] * 2


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("missing", "it failed: RuntimeError: no compiler at all"),
        ("raises 1", "it failed: RuntimeError: no compiler here"),
        ("raises 2", "it failed: RuntimeError: no compiler here"),
        ("raises-backward 4", "it failed: ZeroDivisionError: division by zero"),
        ("doubles", "its step was not the plain one: the gradient's length was off by 1"),
        ("shifts", "its step was not the plain one: what the model gave was off by"),
        ("stale", "its step was not the plain one: what the model gave was off by"),
        ("forgets", "its step was not the plain one: the change of the statistics was off by 100.0%"),
        ("draws", "its step was not the plain one: random numbers was off by"),
    ],
)
def test_whatever_is_wrong_with_them_training_goes_on_plainly_to_the_same_bits(
    runs: Runs, plain: Job, kind: str, why: str
) -> None:
    job = runs.job(**LONG)
    run = job.complete(STAND_IN_COMPILER=kind)
    assert [line for line in run.output.splitlines() if line.startswith("nothing is compiled: ")] == [
        line for line in run.output.splitlines() if why in line
    ][:1]
    assert f"false       auto: {why}" in knob(run)
    assert "Traceback" not in run.output
    assert run.output.count("compiled call") <= TRIAL
    assert job.state()["objects"]["progress"]["compiled"] is False
    assert differences(bits(job), bits(plain)) == []


def test_a_run_goes_on_as_it_began_bit_for_bit(runs: Runs, plain: Job) -> None:
    """The trial of the second attempt meets an optimizer that has a state."""
    job, other = runs.job(**LONG), runs.job(**LONG)
    job.complete(STAND_IN_COMPILER="raises 1", MAX_STEPS=2)
    second = job.complete(STAND_IN_COMPILER="works")
    assert "false       checkpoint" in knob(second)
    assert "compiled call" not in second.output

    other.complete(STAND_IN_COMPILER="works", MAX_STEPS=2)
    again = other.complete(STAND_IN_COMPILER="works", EPOCHS=10)
    assert "true        checkpoint" in knob(again)
    assert again.output.count("compiled call") == TRIAL + 2
    assert differences(bits(job), bits(plain)) == differences(bits(other), bits(plain)) == []
    assert "from here on, no more" in knob(other.complete(MAX_STEPS=5)), "the compiler is gone"


def test_memory_that_runs_out_while_they_are_recorded_halves_the_parts(runs: Runs) -> None:
    job = runs.job(**LONG, BATCH_SIZE=16)
    run = job.complete(STAND_IN_COMPILER="room 4")
    assert "out of memory with 16 images at once: 8 from now on, in twice the parts" in run.output
    assert "out of memory with 8 images at once: 4 from now on, in twice the parts" in run.output
    assert "nothing is compiled" not in run.output
    assert run.output.count("compiled call") == 1 + 1 + TRIAL + 4 * LONG["MAX_STEPS"]
    parts = runs.job(**LONG, BATCH_SIZE=16, BATCH_SIZE_PER_GPU=4, COMPILE=False)
    parts.complete()
    assert differences(bits(job), bits(parts)) == []


def test_memory_that_runs_out_later_is_met_by_a_new_trial(runs: Runs) -> None:
    job = runs.job(**LONG, BATCH_SIZE=16)
    run = job.complete(STAND_IN_COMPILER="works", STAND_IN_MEMORY=8)
    assert "out of memory with 16 images at once: 8 from now on" in run.output
    assert run.output.count("compiled call") == TRIAL + 2 * LONG["MAX_STEPS"]


def test_attempts_that_end_in_the_trial_are_two_at_most(runs: Runs, plain: Job) -> None:
    job = runs.job(**LONG)
    assert [job.start(STAND_IN_COMPILER="dies 2").end() for _ in range(2)] == [[7], [7]]
    third = job.complete(STAND_IN_COMPILER="dies 2")
    assert "nothing is compiled: 2 attempts ended while it was tried" in third.output
    assert differences(bits(job), bits(plain)) == []


def test_a_trial_that_hangs_ends_the_attempt(runs: Runs) -> None:
    run = runs.job(**LONG).start(STAND_IN_COMPILER="hangs", STAND_IN_PATIENCE="0.2")
    assert run.end() == [1]
    assert "Timeout" in run.output


@pytest.mark.parametrize("kind", ["missing", "raises 2"])
def test_compiling_that_was_asked_for_and_fails_is_refused(runs: Runs, kind: str) -> None:
    run = runs.job(**LONG, COMPILE=True).start(STAND_IN_COMPILER=kind)
    assert run.end() == [2]
    assert "COMPILE: true, but it failed: RuntimeError: no compiler" in run.output
    assert "Traceback" not in run.output


def test_compiling_that_was_asked_for_is_done_with_a_word_about_what_differs(runs: Runs) -> None:
    run = runs.job(**LONG, COMPILE=True).complete(STAND_IN_COMPILER="doubles")
    assert "COMPILE: true, so it is done, though its step was not the plain one: the gradient" in run.output
    assert run.output.count("compiled call") == TRIAL + LONG["MAX_STEPS"]


def test_random_numbers_are_drawn_after_a_trial_as_if_there_had_been_none(runs: Runs, plain: Job) -> None:
    job = runs.job(**LONG)
    job.complete(STAND_IN_COMPILER="draws")
    one, other = (max((each.folder / "checkpoints").glob("step-*")) / "rank-0.pt" for each in (job, plain))
    kept, expected = (torch.load(path, weights_only=False)["random"]["torch"] for path in (one, other))
    assert torch.equal(kept, expected)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("bf16", [True, False])
def test_torchs_own_compiler_passes_the_trial(runs: Runs, bf16: bool) -> None:
    knobs = {**LONG, "COMPILE": True, "BATCH_SIZE": 16, "MIXED_PRECISION": bf16}
    run = runs.job(**knobs, TORCHINDUCTOR_CACHE_DIR=runs.folder / "cache").start()
    until(lambda: run.left or run.records("report"), "a step of a compiled training", seconds=600)
    assert run.end() == [0], run.output
    assert "its step was not the plain one" not in run.output
