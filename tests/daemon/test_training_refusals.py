"""What the training project refuses ends its job at once: another attempt would meet the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.daemon.real import RealDaemon
from trainforge.states import JobState

pytest.importorskip("torch", reason="torch is not installed")

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]

TRAINING = Path(__file__).parents[2] / "training"


def test_a_knob_that_makes_no_sense_is_not_tried_again(daemon: RealDaemon) -> None:
    project = daemon.folder / "project"
    shutil.copytree(TRAINING, project, ignore=shutil.ignore_patterns("data", "__pycache__"))
    daemon.tfctl("submit", "--gpu", "2", "--env", "MODEL=resnet19", cwd=project)
    with daemon.client() as client:
        ended = client.wait(1, 400)
    assert (ended.state, ended.reason, ended.attempt) == (JobState.FAILED, "user_error", 1), ended.why
    why = daemon.tfctl("why", "1").stdout
    assert "SettingsError: MODEL: expected one of resnet18" in why
    assert "did you mean resnet18?" in why
