"""Saving and resuming in an attempt, for tests of checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.job.attempt import Attempt
from trainforge.in_job import manifests

pytest.importorskip("torch")
from trainforge import Checkpointer


def steps(attempt: Attempt) -> list[int | None]:
    """Of the checkpoints that are whole, oldest first."""
    found = manifests.find_checkpoints(str(attempt.checkpoints))
    return [checkpoint.step for checkpoint in found if manifests.damage(checkpoint) is None]


def folder(attempt: Attempt, step: int) -> Path:
    return attempt.checkpoints / manifests.folder_name(step)


def saved(attempt: Attempt, *numbers: int, **options: Any) -> dict[str, Any]:
    """Save a dict at each of these steps; the dict holds the step."""
    state: dict[str, Any] = {}
    ckpt = Checkpointer(state=state, **options)
    for number in numbers:
        state["step"] = number
        ckpt.save(number)
    ckpt.close()
    return state


def resumed(**options: Any) -> tuple[int, dict[str, Any]]:
    state: dict[str, Any] = {}
    return Checkpointer(state=state, **options).resume(), state
