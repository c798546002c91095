"""The knobs: each text is read as meant, or refused with what was expected."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import settings
from kinds import Interval
from settings import Settings, SettingsError, knobs, strangers
from train import main

pytestmark = pytest.mark.torch


def read(ranks: int = 1, bf16: bool = False, kept_batch: int = 0, **env: str) -> Settings:
    return Settings.read(env, ranks=ranks, bf16=bf16, kept_batch=kept_batch)


def refused(ranks: int = 1, **env: str) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.read(env, ranks=ranks)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("MODEL", "resnet50", "resnet50"),
        ("MODEL", " ResNet101 ", "resnet101"),
        ("DATASET", "digits", "digits"),
        ("DATA_DIR", "/some/Where", "/some/Where"),
        ("EPOCHS", "3", 3),
        ("EPOCHS", "", 200),
        ("MAX_STEPS", "0", 0),
        ("BATCH_SIZE", "512", 512),
        ("OPTIMIZER", "AdamW", "adamw"),
        ("LEARNING_RATE", "1e-3", 1e-3),
        ("LEARNING_RATE", "0.10", 0.1),
        ("MOMENTUM", "0", 0.0),
        ("WEIGHT_DECAY", "auto", 5e-4),
        ("WARMUP_EPOCHS", "0", 0.0),
        ("GRADIENT_CLIPPING", "true", 1.0),
        ("GRADIENT_CLIPPING", "1.0", 1.0),
        ("GRADIENT_CLIPPING", "1", 1.0),
        ("GRADIENT_CLIPPING", "0.5", 0.5),
        ("GRADIENT_CLIPPING", "false", 0.0),
        ("GRADIENT_CLIPPING", "0", 0.0),
        ("CHECKPOINT_INTERVAL", "10", Interval(epochs=10)),
        ("CHECKPOINT_INTERVAL", "0.25", Interval(epochs=0.25)),
        ("CHECKPOINT_INTERVAL", "500 steps", Interval(steps=500)),
        ("CHECKPOINT_INTERVAL", "1 step", Interval(steps=1)),
        ("CHECKPOINT_INTERVAL", "off", Interval()),
        ("MIXUP", "true", 0.2),
        ("MIXUP", "0.8", 0.8),
        ("MIXUP", "0", 0.0),
        ("CUTMIX", "true", 1.0),
        ("CUTMIX", "off", 0.0),
        ("EMA", "true", 0.999),
        ("EMA", "0.99", 0.99),
        ("EMA", "false", 0.0),
        ("WORKERS", "4", 4),
        ("MIXED_PRECISION", "true", True),
        ("MIXED_PRECISION", "no", False),
        ("RANDOM_CROP", "false", False),
        ("SYNC_BN", "1", True),
        ("COMPILE", "off", False),
    ],
)
def test_a_text_is_read(name: str, text: str, value: Any) -> None:
    settings = Settings.read({name: text})
    assert getattr(settings, name.lower()) == value
    source = {"": "default", "auto": "auto"}.get(text, "environment")
    assert settings.sources[name.lower()].startswith(source)


@pytest.mark.parametrize(
    ("ranks", "epochs", "compiles", "expected"),
    [(1, 10, True, True), (1, 9, True, False), (2, 200, True, False), (1, 200, False, False)],
)
def test_a_run_is_compiled_where_that_pays(ranks: int, epochs: int, compiles: bool, expected: bool) -> None:
    settings = Settings.read({"EPOCHS": str(epochs)}, ranks=ranks, compiles=compiles)
    assert settings.compile is expected
    assert settings.sources["compile"].startswith("auto: ")


@pytest.mark.parametrize(
    ("ranks", "compiles", "kept", "expected", "why"),
    [
        (1, True, False, False, "checkpoint"),
        (1, True, True, True, "checkpoint"),
        (1, True, None, True, "auto: 200 epochs, 1 GPU"),
        (1, False, True, False, "auto: there is no GPU, or no compiler for it; from here on, no more"),
        (2, True, True, False, "auto: 200 epochs, 2 GPUs; from here on, no more"),
    ],
)
def test_a_continued_run_is_compiled_as_it_was_where_it_can_be(
    ranks: int, compiles: bool, kept: bool | None, expected: bool, why: str
) -> None:
    settings = Settings.read({}, ranks=ranks, compiles=compiles, kept_compile=kept)
    assert (settings.compile, settings.sources["compile"]) == (expected, why)
    asked = Settings.read({"COMPILE": str(not expected)}, ranks=ranks, compiles=compiles, kept_compile=kept)
    assert (asked.compile, asked.sources["compile"]) == (not expected, "environment")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "MODEL",
            "resnet19",
            "one of resnet18, resnet34, resnet50, resnet101, resnet20, found `resnet19`; did you mean",
        ),
        ("MODEL", "vgg", "one of resnet18, resnet34, resnet50, resnet101, resnet20, found `vgg`"),
        ("DATASET", "cifar", "one of cifar100, cifar10, digits, found `cifar`; did you mean cifar10"),
        ("EPOCHS", "0", "a whole number from 1 to 1000000000, found `0`"),
        ("EPOCHS", "1" + 300 * "0", "a whole number from 1 to 1000000000"),
        ("EPOCHS", "2.5", "a whole number from 1 to 1000000000"),
        ("BATCH_SIZE", "-1", "auto, or a whole number from 1 to 1000000000"),
        ("BATCH_SIZE", "biggest", "auto, or a whole number from 1 to 1000000000"),
        ("MIXUP", "-0.2", "a number above 0, true (0.2) or false"),
        ("CUTMIX", "some", "a number above 0, true (1.0) or false"),
        ("EMA", "2", "a number between 0 and 1, true (0.999) or false"),
        ("WORKERS", "1000", "auto, or a whole number from 0 to 256"),
        ("WORKERS", "-1", "auto, or a whole number from 0 to 256, found `-1`"),
        ("TENSORBOARD", "here", "auto, or true or false"),
        ("BATCH_SIZE_PER_GPU", "all", "a whole number from 1 to 1000000000"),
        ("LEARNING_RATE", "fast", "auto, or a number above 0"),
        ("LEARNING_RATE", "0", "auto, or a number above 0"),
        ("LEARNING_RATE", "inf", "auto, or a number above 0"),
        ("LEARNING_RATE", "nan", "auto, or a number above 0"),
        ("MOMENTUM", "1", "a number from 0 to below 1"),
        ("WEIGHT_DECAY", "-0.1", "auto, or a number of 0 or more"),
        ("LABEL_SMOOTHING", "10%", "a number from 0 to below 1"),
        ("GRADIENT_CLIPPING", "maybe", "a number above 0, true (1.0) or false"),
        ("GRADIENT_CLIPPING", "-1", "a number above 0, true (1.0) or false"),
        ("CHECKPOINT_INTERVAL", "0 steps", "epochs (1, 0.5), steps (`500 steps`) or off"),
        ("CHECKPOINT_INTERVAL", "-1", "epochs (1, 0.5), steps (`500 steps`) or off"),
        ("CHECKPOINT_INTERVAL", "10m", "epochs (1, 0.5), steps (`500 steps`) or off"),
        ("SYNC_BN", "sometimes", "true or false"),
        ("MIXED_PRECISION", "fp16", "auto, or true or false"),
        ("AUGMENTATION", "strong", "one of none, light, heavy"),
        ("SCHEDULE", "linear", "one of cosine, step, constant"),
        ("SEED", "-3", "a whole number from 0 to 9223372036854775807"),
    ],
)
def test_a_text_is_refused(name: str, text: str, expected: str) -> None:
    assert refused(**{name: text}).startswith(f"{name}: expected {expected}")


def test_all_mistakes_are_told_at_once() -> None:
    told = refused(MODEL="resnet", EPOCHS="many", MIXUP="much")
    assert [line.partition(":")[0] for line in told.splitlines()] == ["MODEL", "EPOCHS", "MIXUP"]


def test_the_batch_that_fits_is_found_and_then_kept() -> None:
    before = read(ranks=2, BATCH_SIZE="auto")
    assert before.wants_fit
    found = Settings.read({"BATCH_SIZE": "auto"}, ranks=2, fits=640)
    assert (found.batch_size, found.batch_size_per_gpu, found.wants_fit) == (1280, 640, False)
    assert found.sources["batch_size_per_gpu"] == "auto: the most that fit"
    assert found.learning_rate == 1.0
    kept = Settings.read({"BATCH_SIZE": "auto"}, ranks=1, fits=640, kept_batch=1280)
    assert (kept.batch_size, kept.parts) == (1280, 2)


def test_what_did_not_fit_is_taken_in_parts() -> None:
    halved = Settings.read({"BATCH_SIZE": "256"}, ranks=2, fits=64)
    assert (halved.batch_size, halved.part, halved.parts) == (256, 64, 2)
    assert halved.sources["batch_size_per_gpu"] == "memory: 128 at once did not fit"


def test_workers_make_what_the_device_cannot_hold() -> None:
    assert read().workers == 0
    assert Settings.read({}, workers=3).workers == 3
    assert Settings.read({"WORKERS": "0"}, workers=3).workers == 0


def test_tensorboard_is_written_where_it_is_installed() -> None:
    assert not read().tensorboard
    assert Settings.read({}, tensorboard=True).tensorboard
    assert refused(TENSORBOARD="true").startswith("TENSORBOARD: true, but it is not installed")


def test_the_batch_grows_with_the_ranks_and_the_rate_with_the_batch() -> None:
    one, eight = read(), read(ranks=8)
    assert (one.batch_size, one.learning_rate) == (128, 0.1)
    assert (eight.batch_size, eight.learning_rate) == (1024, 0.8)
    assert eight.sources["batch_size"] == "auto: 128 × 8"
    assert eight.sources["learning_rate"] == "auto: 0.1 × 1024/128"
    assert (eight.share, eight.parts, eight.distributed) == (128, 1, True)


def test_a_global_batch_is_shared_and_taken_in_parts() -> None:
    eight = read(ranks=8, BATCH_SIZE="128", BATCH_SIZE_PER_GPU="128")
    assert (eight.batch_size, eight.share, eight.parts) == (128, 16, 1)
    assert eight.sources["batch_size"] == "environment: 128 over 8 ranks is 16 each"
    gpus = Settings.read({"BATCH_SIZE": "128"}, ranks=8, unit="GPUs")
    assert gpus.sources["batch_size"] == "environment: 128 over 8 GPUs is 16 each"
    one = read(BATCH_SIZE="512", BATCH_SIZE_PER_GPU="128")
    assert (one.batch_size, one.share, one.parts) == (512, 512, 4)


def test_a_batch_that_cannot_be_shared_evenly_says_so() -> None:
    assert read(ranks=3, BATCH_SIZE="128").sources["batch_size"].endswith("128 over 3 ranks is 42 or 43 each")


def test_a_variable_that_is_almost_a_knob_is_told() -> None:
    assert strangers({"EPOCH": "3", "BATCHSIZE": "2", "PATH": "/bin", "EPOCHS": "3", "RANK": "0"}) == [
        "EPOCH is set, but is no knob; did you mean EPOCHS?",
        "BATCHSIZE is set, but is no knob; did you mean BATCH_SIZE?",
    ]


def test_a_continued_run_keeps_its_batch_and_rate_on_another_number_of_ranks() -> None:
    two = read(ranks=2, kept_batch=512)
    assert (two.batch_size, two.share, two.parts, two.learning_rate) == (512, 256, 2, 0.4)
    assert two.sources["batch_size"] == "checkpoint: 512 over 2 ranks is 256 each"
    assert read(ranks=2, kept_batch=512, BATCH_SIZE="64").batch_size == 64


def test_rates_follow_the_optimizer() -> None:
    adamw = read(OPTIMIZER="adamw", BATCH_SIZE="512")
    assert adamw.learning_rate == pytest.approx(0.002)
    assert adamw.weight_decay == 0.05
    assert adamw.sources["learning_rate"] == "auto: 0.001 × √(512/128)"


def test_warm_up_is_a_tenth_and_at_most_five_epochs() -> None:
    assert [read(EPOCHS=text).warmup_epochs for text in ("3", "50", "300")] == [0.3, 5, 5]
    assert "at most EPOCHS (3)" in refused(EPOCHS="3", WARMUP_EPOCHS="4")


def test_bfloat16_is_used_where_the_device_has_it() -> None:
    assert read(bf16=True).mixed_precision
    assert not read(bf16=False).mixed_precision
    assert read(bf16=False, MIXED_PRECISION="true").mixed_precision


def test_no_augmentation_means_no_crop_unless_asked() -> None:
    assert not read(AUGMENTATION="none").random_crop
    assert read(AUGMENTATION="none", RANDOM_CROP="true").random_crop
    assert not read(AUGMENTATION="heavy", RANDOM_CROP="false").random_crop


def test_several_ranks_that_would_train_apart_are_refused() -> None:
    assert refused(ranks=2, DISTRIBUTED="false").startswith("DISTRIBUTED: false, but 2 ranks were given")
    assert not read(DISTRIBUTED="false").distributed


def test_a_batch_must_have_an_image_for_each_rank() -> None:
    assert refused(ranks=4, BATCH_SIZE="3").startswith("BATCH_SIZE: 3 over 4 ranks")


def test_an_interval_is_counted_in_steps() -> None:
    assert [interval.in_steps(78) for interval in (Interval(epochs=1), Interval(epochs=0.5))] == [78, 39]
    assert [interval.in_steps(78) for interval in (Interval(steps=500), Interval())] == [500, 0]
    assert Interval(epochs=1e-6).in_steps(78) == 1


def test_the_table_shows_every_knob_and_where_its_value_came_from() -> None:
    lines = {line.split()[0]: line.split() for line in read(EPOCHS="7").table().splitlines()}
    assert lines.keys() == {name.upper() for name, _ in knobs()}
    assert lines["EPOCHS"][1:] == ["7", "environment"]
    assert lines["SEED"][1:] == ["0", "default"]
    assert lines["WARMUP_EPOCHS"][1:3] == ["0.7", "auto:"]


def test_help_names_every_knob(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, code in (["--help"], 0), (["-h"], 0), (["--epochs", "3"], 2):
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == code
        assert {name.upper() for name, _ in knobs()} <= set(capsys.readouterr().out.split())


@pytest.mark.parametrize("buffered", [True, False])
def test_help_that_nobody_reads_to_its_end_ends_in_silence(buffered: bool) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code = "import settings; settings.explain(['--help'])"
    found = subprocess.run(
        [sys.executable, *([] if buffered else ["-u"]), "-c", code],
        stdout=writer, stderr=subprocess.PIPE, cwd=Path(str(settings.__file__)).parent, check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )  # fmt: skip
    os.close(writer)
    assert (found.returncode, found.stderr) == (0, b"")
