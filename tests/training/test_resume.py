"""Histories of interruption: a run that goes on must end as one that was never interrupted, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.training.runs import Runs

pytestmark = pytest.mark.torch

HARD = {"AUGMENTATION": "heavy", "GRADIENT_CLIPPING": 0.5, "LABEL_SMOOTHING": 0.1}


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """The places where two states are not the same bits."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return [place for key in one for place in differences(one[key], other[key], f"{where}/{key}")]
    if isinstance(one, list):
        assert len(one) == len(other)
        return [
            place
            for n, pair in enumerate(zip(one, other, strict=True))
            for place in differences(*pair, f"{where}/{n}")
        ]
    same = torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    return [] if same else [where]


def weights_and_progress(state: dict[str, Any]) -> dict[str, Any]:
    """All but the clock."""
    objects = state["objects"]
    return {**objects, "progress": {**objects["progress"], "seconds": None}}


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
    assert 13 <= stopped_at < 30
    second = broken.complete(ranks)

    steps = [report["step"] for report in second.records("report")]
    assert steps[0] == stopped_at + (stopped_at % 10 != 0)
    assert steps[-1] == 30
    assert differences(weights_and_progress(whole.state()), weights_and_progress(broken.state())) == []
