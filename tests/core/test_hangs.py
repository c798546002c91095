"""When silence is taken for a hang."""

from __future__ import annotations

import pytest

from trainforged.core.hangs import (
    BUSY_LEAST,
    LEAST,
    GpuUse,
    Rhythm,
    Suspicion,
    Timeout,
    gpu_use,
    heard,
    patience,
    recalled,
    suspicion,
    together,
)

STEADY = Rhythm(last=1000.0, signs=50, longest=2.0)
EPOCHS = Rhythm(last=1000.0, signs=3, longest=1800.0)
START = Rhythm(last=1000.0, signs=2, longest=5.0)


@pytest.mark.parametrize(
    ("rhythm", "timeout", "phase", "silent", "expected"),
    [
        (STEADY, "off", None, 1e9, Suspicion.NONE),
        (STEADY, 30.0, None, 29.9, Suspicion.NONE),
        (STEADY, 30.0, None, 30.0, Suspicion.HANGS),
        (START, 30.0, "evaluate", 30.0, Suspicion.HANGS),  # as written
        (STEADY, "auto", None, LEAST - 1, Suspicion.NONE),
        (STEADY, "auto", None, LEAST, Suspicion.LOOK),
        (STEADY, "auto", "evaluate", 1e6, Suspicion.NONE),
        (EPOCHS, "auto", None, 3 * 1800.0 - 1, Suspicion.NONE),
        (EPOCHS, "auto", None, 3 * 1800.0, Suspicion.LOOK),
        (START, "auto", None, LEAST, Suspicion.WARN),
    ],
)
def test_what_silence_means(
    rhythm: Rhythm, timeout: Timeout, phase: str | None, silent: float, expected: Suspicion
) -> None:
    assert suspicion(rhythm, timeout, phase, rhythm.last + silent) is expected


def test_starting_up_is_no_gap() -> None:
    rhythm = heard(Rhythm(last=0.0), 900.0)
    assert rhythm == Rhythm(last=900.0, signs=1, longest=0.0)
    rhythm = heard(heard(rhythm, 910.0), 915.0, signs=4)
    assert rhythm == Rhythm(last=915.0, signs=6, longest=10.0)


def test_one_that_may_be_at_work_is_given_longer() -> None:
    assert (patience(STEADY), patience(STEADY, busy=True)) == (LEAST, BUSY_LEAST)
    assert (patience(EPOCHS), patience(EPOCHS, busy=True)) == (3 * 1800.0, 6 * 1800.0)


def test_a_rhythm_from_before_the_watch() -> None:
    assert recalled(Rhythm(last=50.0), [7.0, 10.0, 2.0, 4.0]) == Rhythm(last=50.0, signs=4, longest=3.0)
    assert recalled(Rhythm(last=50.0), []) == Rhythm(last=50.0)


@pytest.mark.parametrize(
    ("utilisation", "power", "expected"),
    [
        (100, 620.0, GpuUse.WORKS),
        (35, 300.0, GpuUse.WORKS),
        (100, 120.0, GpuUse.SPINS),
        (100, 220.0, GpuUse.UNKNOWN),  # a small model, or a loop that waits
        (60, 120.0, GpuUse.UNKNOWN),
        (0, 70.0, GpuUse.IDLE),
        (None, 70.0, GpuUse.UNKNOWN),
        (100, None, GpuUse.UNKNOWN),
    ],
)
def test_what_a_gpu_does(utilisation: int | None, power: float | None, expected: GpuUse) -> None:
    assert gpu_use(utilisation, power, 700.0) is expected
    assert gpu_use(utilisation, power, None) is GpuUse.UNKNOWN


SEEN = {  # utilisation, W and limit of GPUs whose training hung in a collective, as people reported them
    "NVIDIA/nccl#1550": [(100, 152, 700), (0, 129, 700), (0, 137, 700), (0, 135, 700)],  # H100
    "NVIDIA-NeMo/Speech#9291": [(100, 100, 700)] * 8,  # H100, 500 to 690 W while it trained
    "pytorch/pytorch#22671": [(100, 76, 300), (100, 65, 300), (100, 66, 300)],  # V100
    "horovod/horovod#3611": [(100, 47, 250), (100, 40, 250)],  # V100
}
IDLE = {  # of GPUs that a process had opened and did nothing on
    "triton-inference-server/server#2678": [(0, 37, 70)] * 4,  # T4
    "huggingface/text-generation-inference#946": [(0, 38, 140)],  # A4000
}


@pytest.mark.parametrize("where", SEEN)
def test_what_was_seen_of_collectives_that_hang(where: str) -> None:
    assert together([gpu_use(*figures) for figures in SEEN[where]]) is GpuUse.SPINS


@pytest.mark.parametrize("where", IDLE)
def test_what_was_seen_of_idle_gpus(where: str) -> None:
    assert together([gpu_use(*figures) for figures in IDLE[where]]) is GpuUse.IDLE


@pytest.mark.parametrize(
    ("uses", "expected"),
    [
        ([GpuUse.SPINS, GpuUse.WORKS], GpuUse.WORKS),
        ([GpuUse.SPINS, GpuUse.SPINS], GpuUse.SPINS),
        ([GpuUse.SPINS, GpuUse.IDLE], GpuUse.SPINS),
        ([GpuUse.SPINS, GpuUse.UNKNOWN], GpuUse.UNKNOWN),
        ([GpuUse.UNKNOWN], GpuUse.UNKNOWN),
    ],
)
def test_what_gpus_do_together(uses: list[GpuUse], expected: GpuUse) -> None:
    assert together(uses) is expected
