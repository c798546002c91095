"""Histories of interruption: a run that goes on must end as one that was never interrupted, bit for bit."""

from __future__ import annotations

import pytest
import torch

from tests.training.runs import HARD, Run, Runs, differences, until, weights_and_progress

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_stopped_run_goes_on_bit_for_bit(runs: Runs, ranks: int) -> None:
    whole = runs.job(**HARD)
    whole.complete(ranks)

    broken = runs.job(**HARD)
    first = broken.start(ranks)
    first.reach(13)
    first.terminate(rank=ranks - 1)
    assert first.end() == [0] * ranks, first.output
    stopped_at = broken.state()["step"]
    assert 13 <= stopped_at < 20
    second = broken.complete(ranks)

    steps = [report["step"] for report in second.records("report")]
    assert steps[0] == stopped_at + (stopped_at % 10 != 0)
    assert steps[-1] == 20
    assert differences(weights_and_progress(whole.state()), weights_and_progress(broken.state())) == []


def test_a_run_stopped_while_it_evaluates_goes_on_bit_for_bit(runs: Runs) -> None:
    whole, broken = runs.job(), runs.job()
    whole.complete()
    first = broken.start()
    until(lambda: first.records("phase") or first.left, "an evaluation")
    first.terminate()
    assert first.end() == [0], first.output
    assert 10 <= broken.state()["step"] < 20
    broken.complete()
    assert differences(weights_and_progress(whole.state()), weights_and_progress(broken.state())) == []


def test_a_killed_run_goes_on_from_its_last_checkpoint_bit_for_bit(runs: Runs) -> None:
    whole, broken = runs.job(**HARD), runs.job(**HARD, CHECKPOINT_INTERVAL="6 steps")
    whole.complete(2)
    first = broken.start(2)
    until(lambda: len(first.records("checkpoint")) >= 2 or first.left, "two checkpoints")
    first.kill()
    second = broken.complete(2)
    assert second.records("resumed")[0]["step"] >= 6
    assert differences(weights_and_progress(whole.state()), weights_and_progress(broken.state())) == []


def test_a_run_cut_short_by_max_steps_goes_on_bit_for_bit(runs: Runs) -> None:
    whole, broken = runs.job(OPTIMIZER="adamw"), runs.job(OPTIMIZER="adamw")
    whole.complete()
    cut = broken.complete(MAX_STEPS=7)
    assert [report["steps"] for report in cut.records("report")] == [7] * 8  # seven steps, one evaluation
    assert broken.state()["step"] == 7
    assert "a new run" in cut.output
    assert "going on after step 7, in epoch 1 of 2" in broken.complete().output
    assert "it is at its end, step 20; a new run wants" in broken.complete().output
    assert differences(weights_and_progress(whole.state()), weights_and_progress(broken.state())) == []


def test_the_same_run_twice_gives_the_same_bits(runs: Runs) -> None:
    twins = [runs.job(**HARD, MAX_STEPS=4, MIXED_PRECISION=True) for _ in range(2)]
    for twin in twins:
        twin.complete()
    one, other = (weights_and_progress(twin.state()) for twin in twins)
    assert differences(one, other) == []


def test_more_ranks_keep_the_batch_the_rate_and_the_place(runs: Runs) -> None:
    job = runs.job(BATCH_SIZE="", BATCH_SIZE_PER_GPU=8, LEARNING_RATE="auto")
    job.complete(MAX_STEPS=7)
    grown = job.complete(2)
    assert "checkpoint: 8 over 2 ranks is 4 each" in grown.output
    assert "auto: 0.1 × 8/128" in grown.output
    assert [report["step"] for report in grown.records("report")] == [8, 9, 10, 10, *range(11, 21), 20]


def test_the_loss_goes_on_without_a_jump_on_another_number_of_ranks(runs: Runs) -> None:
    whole, broken = (runs.job(SYNC_BN=True, BATCH_SIZE=16, LEARNING_RATE=0.01) for _ in range(2))
    undisturbed = whole.complete(1)
    broken.complete(1, MAX_STEPS=4)
    continued = broken.complete(2)
    again = [report for report in continued.records("report") if "loss" in report["metrics"]]
    expected = [report for report in undisturbed.records("report") if "loss" in report["metrics"]][4:]
    assert [report["step"] for report in again] == [report["step"] for report in expected]
    for one, other in zip(again, expected, strict=True):
        assert one["metrics"]["loss"] == pytest.approx(other["metrics"]["loss"], rel=0.03)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_loss_goes_on_without_a_jump_over_one_two_four_and_one_rank(runs: Runs) -> None:
    """Also where each rank takes the statistics of its own images."""
    pytest.importorskip("sklearn")
    knobs = {"DATASET": "digits", "BATCH_SIZE": 128, "EPOCHS": 5, "LEARNING_RATE": 0.05}
    whole, broken = runs.job(**knobs), runs.job(**knobs)
    expected = losses(whole.complete())
    stages = [(1, 14), (2, 28), (4, 42), (1, 55)]
    found = [losses(broken.complete(ranks, MAX_STEPS=last)) for ranks, last in stages]

    assert sorted(step for stage in found for step in stage) == [*expected] == [*range(1, 56)]
    assert expected[1] > 2
    for stage in found:
        for step in [*stage][:3]:
            assert stage[step] == pytest.approx(expected[step], abs=0.15)
    assert found[-1][55] < 0.3


def losses(run: Run) -> dict[int, float]:
    reports = run.records("report")
    return {record["step"]: record["metrics"]["loss"] for record in reports if "loss" in record["metrics"]}


def test_fewer_ranks_take_the_batch_in_parts(runs: Runs) -> None:
    job = runs.job(BATCH_SIZE="", BATCH_SIZE_PER_GPU=4)
    job.complete(2, MAX_STEPS=7)
    shrunk = job.complete()
    assert "checkpoint" in next(line for line in shrunk.output.splitlines() if "BATCH_SIZE " in line)
    assert shrunk.records("report")[-1]["step"] == 20


def test_the_number_of_ranks_changes_nothing_when_statistics_are_shared(runs: Runs) -> None:
    """Order, augmentation, weighting of uneven shares, averaging and SYNC_BN in one: the same training."""
    jobs = [runs.job(**HARD, SYNC_BN=True, MAX_STEPS=3, BATCH_SIZE=15) for _ in range(2)]
    jobs[0].complete(1)
    jobs[1].complete(2)
    one, two = (job.state()["objects"]["model"] for job in jobs)
    for name, tensor in one.items():
        torch.testing.assert_close(
            two[name], tensor, rtol=2e-3, atol=5e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_knobs_may_change_on_the_way(runs: Runs) -> None:
    job = runs.job(MAX_STEPS=3)
    job.complete()
    knobs = {"LEARNING_RATE": 0.5, "WEIGHT_DECAY": 0.25, "MOMENTUM": 0.5, "SCHEDULE": "constant"}
    changed = job.complete(MAX_STEPS=4, **knobs)
    group = job.state()["objects"]["optimizer"]["param_groups"][0]
    assert (group["weight_decay"], group["momentum"]) == (0.25, 0.5)
    assert changed.records("report")[0]["metrics"]["lr"] == 0.5


def test_a_run_with_workers_is_the_same_as_one_without_and_goes_on_after_a_stop(runs: Runs) -> None:
    whole, broken = runs.job(**HARD), runs.job(**HARD, WORKERS=2)
    whole.complete(2)
    first = broken.start(2)
    first.reach(13)
    first.terminate()
    assert first.end() == [0] * 2, first.output
    assert 13 <= broken.state()["step"] < 20
    broken.complete(2)
    assert differences(weights_and_progress(whole.state()), weights_and_progress(broken.state())) == []


def test_a_mean_of_weights_that_is_asked_for_later_begins_with_the_weights(runs: Runs) -> None:
    job = runs.job(MAX_STEPS=3)
    job.complete()
    job.complete(MAX_STEPS=4, EMA=0.999)
    objects = job.state()["objects"]
    weights, mean = objects["model"]["0.weight"], objects["average"]["0.weight"]
    assert 0 < (weights - mean).abs().max() < 0.05


def test_a_full_disk_is_survived_but_a_run_whose_end_is_on_no_disk_has_not_succeeded(runs: Runs) -> None:
    whole, broken = runs.job(), runs.job(CHECKPOINT_INTERVAL="10 steps")
    whole.complete(2)
    broken.complete(2, MAX_STEPS=5)
    full = broken.start(2, STAND_IN_DISK=100_000)
    assert full.end() == [1, 0], full.output
    assert full.records("report")[-1]["step"] == 20, "training went on"
    assert "step 20 was not saved: what came after the last checkpoint is lost" in full.output
    assert "Traceback" not in full.output
    assert broken.state()["step"] == 5, "the old one stays"
    broken.complete(2)
    assert differences(weights_and_progress(whole.state()), weights_and_progress(broken.state())) == []


def test_another_network_does_not_go_on_from_this_checkpoint(runs: Runs) -> None:
    job = runs.job(MAX_STEPS=1)
    job.complete(2)
    other = job.start(2, OPTIMIZER="adamw")
    assert other.end() == [2, 2]
    assert other.output.count("the checkpoint is of resnet20 with sgd on cifar100") == 1
    assert "Traceback" not in other.output
