"""Memory that runs out: how many images fit is found beforehand, and corrected on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import fit
from model import build
from tests.training.pictures import write_cifar100
from tests.training.runs import Runs

pytestmark = pytest.mark.torch

CPU = torch.device("cpu")


def up_to(limit: int) -> Callable[[int], bool]:
    return lambda images: images <= limit


@pytest.mark.parametrize(
    ("room", "limit", "found"),
    [(1000, 4096, 896), (1024, 4096, 1024), (1, 64, 1), (0, 64, 1), (3, 64, 3), (10**6, 100, 96), (7, 5, 5)],
)
def test_the_largest_that_fits_is_found_to_an_eighth(room: int, limit: int, found: int) -> None:
    assert fit.largest(up_to(room), limit) == found
    assert found == 1 or found <= min(room, limit)


@pytest.mark.parametrize(
    ("room", "wanted", "found"), [(128, 128, 128), (100, 128, 64), (10, 25, 7), (0, 8, 1)]
)
def test_what_does_not_fit_is_halved_until_it_does(room: int, wanted: int, found: int) -> None:
    assert fit.halved(up_to(room), wanted) == found


def test_running_out_of_memory_is_an_answer_and_other_errors_are_not() -> None:
    def fail(error: Exception) -> None:
        raise error

    assert fit.tries(lambda: None)
    assert not fit.tries(lambda: fail(torch.cuda.OutOfMemoryError("no room")))
    with pytest.raises(RuntimeError, match="something else"):
        fit.tries(lambda: fail(RuntimeError("something else")))


def test_a_rehearsal_leaves_the_model_as_it_was() -> None:
    model = build("resnet20", 10)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit.rehearse(model, CPU, False, 2)
    fit.bytes_kept(model, CPU, False, 2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_cpu_takes_what_half_of_its_free_memory_holds() -> None:
    model = build("resnet20", 10)
    each = (fit.bytes_kept(model, CPU, False, 4) - fit.bytes_kept(model, CPU, False, 2)) / 2
    activations = 19 * 16 * 32 * 32 * 4  # of three stages, the later ones half as large: an upper bound
    assert activations / 2 < each < 4 * activations
    fits = fit.can_train(model, CPU, bf16=False, ranks=1)
    room = fit.SHARE * fit.free_memory() / each
    assert fits(int(0.8 * room))
    assert not fits(int(1.2 * room))


def test_a_note_is_kept_beside_the_checkpoints(tmp_path: Path) -> None:
    folder = str(tmp_path / "checkpoints")
    assert fit.read_note(folder) == 0
    fit.write_note(folder, 64)
    assert fit.read_note(folder) == 64
    Path(folder, fit.NOTE).write_text("damaged")
    assert fit.read_note(folder) == 0


def test_a_run_that_runs_out_of_memory_goes_on_with_half_as_many_images_at_once(runs: Runs) -> None:
    job = runs.job(MAX_STEPS=6, BATCH_SIZE=16)
    run = job.complete(STAND_IN_MEMORY=4)  # a device that holds 4 images
    assert "out of memory with 16 images at once: 8 from now on, in twice the parts" in run.output
    assert "out of memory with 8 images at once: 4 from now on, in twice the parts" in run.output
    assert [report["step"] for report in run.records("report")][-1] == 6
    assert "the batch stays 16" in run.output

    again = job.complete(STAND_IN_MEMORY=4, MAX_STEPS=8)
    assert "memory: 128 at once did not fit" in again.output
    assert "out of memory with" not in again.output

    free = runs.job(MAX_STEPS=6, BATCH_SIZE=16, BATCH_SIZE_PER_GPU=4)
    free.complete()
    free.complete(MAX_STEPS=8)
    limited, chosen = (each.state()["objects"]["optimizer"]["state"] for each in (job, free))
    for one, other in zip(limited.values(), chosen.values(), strict=True):
        torch.testing.assert_close(one["momentum_buffer"], other["momentum_buffer"], rtol=0.1, atol=0.02)


def test_a_rank_that_runs_out_of_memory_beside_others_leaves_word_for_the_next_attempt(runs: Runs) -> None:
    job = runs.job(MAX_STEPS=6, BATCH_SIZE=16)
    first = job.start(2, STAND_IN_MEMORY=4, STAND_IN_RANK=1)
    first.processes[1].join()
    assert first.processes[1].exitcode == 1
    assert "rank 1: out of memory with 8 images at once: 4 in the next attempt" in first.output
    assert "OutOfMemoryError" in first.output
    first.kill()
    second = job.complete(2, STAND_IN_MEMORY=4, STAND_IN_RANK=1)
    assert "memory: 128 at once did not fit" in second.output
    assert job.state()["step"] == 6


def test_the_batch_that_fits_is_found_once_and_kept(runs: Runs) -> None:
    job = runs.job(BATCH_SIZE="auto", MAX_STEPS=2)
    first = job.complete(2)
    assert "auto: the most that fit" in first.output
    assert job.state()["objects"]["progress"]["batch_size"] == 4  # 80 images, 16 steps, 2 ranks
    second = job.complete(1, MAX_STEPS=4)
    assert "checkpoint" in next(line for line in second.output.splitlines() if "BATCH_SIZE " in line)
    assert job.state()["objects"]["progress"]["batch_size"] == 4


def test_of_ranks_that_find_room_for_different_numbers_the_least_counts(runs: Runs) -> None:
    images, room = 640, {0: 17, 1: 9}  # of a batch, by rank
    write_cifar100(runs.folder / "more", images=images)
    model = build("resnet20", 100)
    each = (fit.bytes_kept(model, CPU, False, 4) - fit.bytes_kept(model, CPU, False, 2)) / 2
    free = {f"STAND_IN_FREE_{rank}": int((n + 0.5) * each * 2 / fit.SHARE) for rank, n in room.items()}
    job = runs.job(DATA_DIR=runs.folder / "more", BATCH_SIZE="auto", MAX_STEPS=1, **free)
    first = job.complete(2)
    alone = [fit.largest(up_to(n), images // fit.FEW_STEPS // 2) for n in room.values()]
    assert alone == [16, 9], "what each finds by itself"
    assert job.state()["objects"]["progress"]["batch_size"] == 2 * min(alone)
    assert fit.read_note(str(job.folder / "checkpoints")) == min(alone)
    assert "18 " in next(line for line in first.output.splitlines() if "BATCH_SIZE " in line)

    again = job.complete(2, MAX_STEPS=2, STAND_IN_FREE_1=free["STAND_IN_FREE_0"])
    assert "checkpoint" in next(line for line in again.output.splitlines() if "BATCH_SIZE " in line)
    assert job.state()["objects"]["progress"]["batch_size"] == 2 * min(alone), (
        "kept, though there is room now"
    )
