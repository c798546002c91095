"""What the training project refuses ends its job: another attempt would meet the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.daemon.real import RealDaemon
from trainforge.states import JobState

pytest.importorskip("torch", reason="torch is not installed")

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]

TRAINING = Path(__file__).parents[2] / "training"


def submit(daemon: RealDaemon, gpus: int, **env: object) -> None:
    """The project as job 1."""
    project = daemon.folder / "project"
    shutil.copytree(TRAINING, project, ignore=shutil.ignore_patterns("data", "__pycache__"))
    knobs = [word for name, value in env.items() for word in ("--env", f"{name}={value}")]
    daemon.tfctl("submit", "--gpu", str(gpus), *knobs, cwd=project)


def test_a_knob_that_makes_no_sense_is_not_tried_again(daemon: RealDaemon) -> None:
    submit(daemon, 2, MODEL="resnet19")
    with daemon.client() as client:
        ended = client.wait(1, 400)
    assert (ended.state, ended.reason, ended.attempt) == (JobState.FAILED, "user_error", 1), ended.why
    why = daemon.tfctl("why", "1").stdout
    assert "SettingsError: MODEL: expected one of resnet18" in why
    assert "did you mean resnet18?" in why


def test_a_loss_that_is_no_number_twice_is_the_cause_and_not_tried_again(daemon: RealDaemon) -> None:
    small = {"MODEL": "resnet20", "DATASET": "digits", "BATCH_SIZE": 32}
    submit(daemon, 1, **small, LEARNING_RATE=1e30, WARMUP_EPOCHS=0, REPORT_INTERVAL=2)
    with daemon.client() as client:
        ended = client.wait(1, 400)
    assert (ended.state, ended.reason, ended.attempt) == (JobState.FAILED, "user_error", 2), ended.why
    assert ended.why is not None
    assert "FloatingPointError: the loss is nan" in ended.why
    assert "lower LEARNING_RATE (it is 1e+30)" in daemon.tfctl("why", "1").stdout
