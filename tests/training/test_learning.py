"""The networks, the learning rate, the optimizer and the sums."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from metrics import Meter, Scores
from model import MODELS, build
from ranks import Ranks
from settings import Settings, SettingsError
from utils import Progress, WeightAverage, learning_rate, make_optimizer

pytestmark = pytest.mark.torch

ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.mark.parametrize(
    ("name", "millions"),
    [("resnet18", 11.22), ("resnet34", 21.33), ("resnet50", 23.71), ("resnet101", 42.70), ("resnet20", 0.28)],
)
def test_the_networks_have_their_known_size(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = build(name, 100)
        logits = model(torch.empty(2, 3, 32, 32))
    assert logits.shape == (2, 100)
    assert sum(weight.numel() for weight in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_the_stem_keeps_all_pixels() -> None:
    assert {"resnet18", "resnet34", "resnet50", "resnet101"} < set(MODELS)
    seen: list[torch.Size] = []
    with torch.device("meta"):
        model = build("resnet18", 10)
        model.layer1.register_forward_hook(lambda module, given, result: seen.append(result.shape))
        model(torch.empty(1, 3, 32, 32))
    assert seen == [(1, 64, 32, 32)]


def rates(**env: str) -> list[float]:
    settings = Settings.read({"EPOCHS": "10", "LEARNING_RATE": "1", **env})
    return [round(learning_rate(settings, epoch), 4) for epoch in (0.5, 1, 3.5, 5.5, 7, 9, 10)]


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"SCHEDULE": "constant"}, [0.5, 1, 1, 1, 1, 1, 1]),
        ({"SCHEDULE": "cosine"}, [0.5, 1, 0.8214, 0.5, 0.25, 0.0302, 0]),
        ({"SCHEDULE": "step"}, [0.5, 1, 0.2, 0.2, 0.04, 0.008, 0.008]),
        ({"SCHEDULE": "constant", "WARMUP_EPOCHS": "0"}, [1, 1, 1, 1, 1, 1, 1]),
        ({"SCHEDULE": "cosine", "WARMUP_EPOCHS": "10"}, [0.05, 0.1, 0.35, 0.55, 0.7, 0.9, 1]),
    ],
)
def test_the_learning_rate_follows_its_schedule(env: dict[str, str], expected: list[float]) -> None:
    assert rates(**env) == expected


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_weights_decay_and_biases_and_norms_do_not(name: str) -> None:
    model = build("resnet20", 10)
    optimizer = make_optimizer(model, Settings.read({"OPTIMIZER": name, "WEIGHT_DECAY": "0.1"}))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decay) == len(list(model.parameters()))
    assert all(decay[id(p)] == (0.1 if p.ndim > 1 else 0.0) for p in model.parameters())


@pytest.mark.parametrize("nesterov", ["0.9", "0"])
def test_the_fused_optimizer_steps_as_the_plain_one(nesterov: str) -> None:
    def stepped(**options: Any) -> torch.Tensor:
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 3)
        optimizer = make_optimizer(model, Settings.read({"MOMENTUM": nesterov, "WEIGHT_DECAY": "0.01"}))
        for group in optimizer.param_groups:
            group.update(options)
        for _ in range(5):
            model(torch.ones(2, 4)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return model.weight.detach()

    assert torch.allclose(stepped(), stepped(fused=False, foreach=False), atol=1e-6)


def test_the_meter_counts_until_it_is_read() -> None:
    meter = Meter(ALONE)
    logits = torch.eye(8)[torch.tensor([0, 1, 2, 3])] + torch.linspace(0, 0.1, 8)
    for labels in ([0, 1, 2, 3], [0, 7, 0, 0]):
        meter.add(torch.tensor(0.5), logits, torch.tensor(labels))
    meter.add_norm(torch.tensor(2.0))
    scores = meter.read()
    assert scores == Scores(loss=4.0, top1=5, top5=6, images=8, norm=2, norms=1)
    assert scores.named("val_") == {"val_loss": 0.5, "val_accuracy": 0.625, "val_accuracy_top5": 0.75}
    assert meter.read() == Scores()


def test_of_a_mixed_image_the_larger_share_counts() -> None:
    meter = Meter(ALONE)
    shares = torch.tensor([[0.6, 0.4], [0.3, 0.7]])
    meter.add(torch.tensor(0.1), torch.tensor([[0.9, 0.1], [0.9, 0.1]]), shares)
    assert meter.read().top1 == 1


def test_the_mean_of_weights_follows_the_model_and_forgets_its_start() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.BatchNorm1d(1))
    average = WeightAverage(model, 0.9)
    weight, variance = model[0].weight, model[1].running_var
    with torch.no_grad():
        weight.fill_(1.0)
        variance.fill_(1.0)
        average.follow(step=0)  # keeps a tenth
        start = average.model[0].weight.item()
        weight.fill_(3.0)
        variance.fill_(5.0)
        average.follow(step=10**6)  # keeps the decay
    assert average.model[0].weight.item() == pytest.approx(0.9 * start + 0.1 * 3)
    assert average.model[1].running_var.item() == pytest.approx(0.9 * 1 + 0.1 * 5)
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
    other = WeightAverage(torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.BatchNorm1d(1)), 0.9)
    other.load_state_dict(average.state_dict())
    assert other.restored
    assert torch.equal(other.model[0].weight, average.model[0].weight)
    average.restart()
    assert torch.equal(average.model[0].weight, weight)


def test_two_classes_have_no_five_best() -> None:
    meter = Meter(ALONE)
    meter.add(torch.tensor(0.1), torch.tensor([[0.1, 0.9]]), torch.tensor([1]))
    assert meter.read().top1 == 1


def test_progress_counts_whole_batches() -> None:
    progress = Progress("some run", images=100, batch_size=16)
    assert (progress.steps_per_epoch, progress.steps_left, progress.steps_at_end(3)) == (6, 6, 18)
    progress.step, progress.position = 4, 64
    assert (progress.steps_left, progress.steps_at_end(3)) == (2, 18)
    progress.batch_size = 32  # continued with another batch
    assert (progress.steps_left, progress.steps_at_end(3)) == (1, 11)
    progress.step, progress.position = 5, 96
    assert progress.steps_left == 0


def test_progress_goes_through_a_checkpoint_but_not_into_another_run() -> None:
    progress = Progress("resnet18 on cifar100", images=100, batch_size=16)
    progress.step, progress.epoch, progress.position, progress.seconds = 7, 1, 16, 2.5
    progress.scores = Scores(1.0, 2.0, 3.0, 4.0, 5.0)
    other = Progress("resnet18 on cifar100", images=100, batch_size=16)
    other.load_state_dict(progress.state_dict())
    assert other == progress
    with pytest.raises(
        SettingsError, match="the checkpoint is of resnet18 on cifar100; this run is of resnet50"
    ):
        Progress("resnet50 on cifar100", 100, 16).load_state_dict(progress.state_dict())


def test_ranks_are_what_the_launcher_says() -> None:
    ranks = Ranks.from_environment({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "3"})
    assert (ranks.rank, ranks.count, ranks.first) == (3, 4, False)
    assert Ranks.from_environment({}).first


@pytest.mark.parametrize(
    ("matrix_unit", "vectors", "by", "faster"),
    [
        (True, True, "GenuineIntel", True),
        (False, True, "GenuineIntel", False),
        (False, True, "AuthenticAMD", True),
        (False, False, "AuthenticAMD", False),
    ],
)
def test_a_processor_has_bfloat16_where_that_is_faster(
    matrix_unit: bool, vectors: bool, by: str, faster: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {by}\n")
    monkeypatch.setattr("ranks.PROCESSOR", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: matrix_unit)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: vectors)
    assert ALONE.has_bf16 is faster


def test_what_cannot_be_read_of_a_processor_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ranks.PROCESSOR", Path("/nowhere"))
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert not ALONE.has_bf16


def test_scores_add_up() -> None:
    assert list(itertools.accumulate([Scores(1, 1, 1, 1, 1, 1)] * 2, Scores.plus))[-1] == Scores(
        2, 2, 2, 2, 2, 2
    )
