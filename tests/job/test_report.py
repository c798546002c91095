"""What `report` and `phase` write, refuse and survive."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from typing import Any

import pytest

import trainforge
from tests.job.attempt import Attempt
from trainforge import protocol


def test_a_report_holds_position_and_metrics(in_attempt: Attempt) -> None:
    before = time.time()
    trainforge.report(step=3, steps=10.0, epoch=0.5, loss=1.5, best=True, count=7)
    (record,) = in_attempt.records()
    assert before <= record.pop("time") <= time.time()
    assert record == {
        "kind": "report",
        "step": 3,
        "steps": 10,
        "epoch": 0.5,
        "metrics": {"loss": 1.5, "best": 1.0, "count": 7.0},
    }


def test_values_that_are_no_finite_number_are_legal_metrics(in_attempt: Attempt) -> None:
    trainforge.report(loss=math.nan, up=math.inf, down=-math.inf)
    (record,) = in_attempt.records()
    assert math.isnan(record["metrics"]["loss"])
    assert (record["metrics"]["up"], record["metrics"]["down"]) == (math.inf, -math.inf)


@pytest.mark.torch
def test_scalars_of_numpy_and_torch_are_numbers(in_attempt: Attempt) -> None:
    torch = pytest.importorskip("torch")
    numpy = pytest.importorskip("numpy")
    weight = torch.tensor(2.5, requires_grad=True)
    trainforge.report(
        step=torch.tensor(4), a=weight, b=numpy.float32(0.5), c=numpy.int64(3), d=torch.tensor([1.0])
    )
    (record,) = in_attempt.records()
    assert record["step"] == 4
    assert record["metrics"] == {"a": 2.5, "b": 0.5, "c": 3.0, "d": 1.0}
    with pytest.raises(TypeError, match=r"loss: expected one number, found Tensor of shape \(2,\)"):
        trainforge.report(loss=torch.zeros(2))


@pytest.mark.parametrize("value", ["0.5", b"1", None, [1.0], {"a": 1}, 1j, 10**400])
def test_what_is_no_number_is_refused_by_name(in_attempt: Attempt, value: Any) -> None:
    with pytest.raises(TypeError, match="loss: expected one number, found"):
        trainforge.report(step=1, loss=value)
    assert in_attempt.records() == []


def test_a_position_is_finite(in_attempt: Attempt) -> None:
    with pytest.raises(ValueError, match="step: expected a finite number, found nan"):
        trainforge.report(step=math.nan)


def test_keys_are_text(in_attempt: Attempt) -> None:
    with pytest.raises(TypeError, match="keywords must be strings"):
        trainforge.report(**{1: 2.0})  # type: ignore[arg-type]


def test_a_phase_ends_also_by_an_error(in_attempt: Attempt) -> None:
    with pytest.raises(KeyError), trainforge.phase("evaluate"):
        raise KeyError
    assert [(record["name"], record["state"]) for record in in_attempt.records("phase")] == [
        ("evaluate", "begin"),
        ("evaluate", "end"),
    ]
    with pytest.raises(TypeError, match="expected the name of the phase, found 3"), trainforge.phase(3):  # type: ignore[arg-type]
        pass


def test_threads_and_forked_processes_do_not_mix_lines(in_attempt: Attempt) -> None:
    trainforge.report(step=0)

    def work(who: int) -> None:
        for number in range(300):
            trainforge.report(step=number, who=who, padding=1 / 3)

    children = []
    for who in range(3):
        if (pid := os.fork()) == 0:
            work(who)
            os._exit(0)
        children.append(pid)
    threads = [threading.Thread(target=work, args=(who,)) for who in range(3, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    seen = [(record["metrics"]["who"], record["step"]) for record in in_attempt.records()[1:]]
    assert sorted(seen) == [(who, number) for who in range(6) for number in range(300)]


def test_a_full_disk_is_survived_and_told_once(attempt: Attempt) -> None:
    (attempt.folder / protocol.RECORDS.format(rank=0)).symlink_to("/dev/full")
    script = "import trainforge\nfor step in range(50): trainforge.report(step=step)\nprint('went on')"
    result = attempt.run([attempt.script(script)])
    assert (result.code, result.stdout) == (0, "went on\n")
    assert result.stderr.count("\n") == 1
    assert "records-0.jsonl: No space left on device" in result.stderr


TORN = """
import resource, trainforge
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
trainforge.report(step=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # the next line is cut, and none fits after it
for step in (2, 3, 4): trainforge.report(step=step)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
trainforge.report(step=5)
"""


def test_a_line_cut_by_a_full_disk_spoils_no_other(attempt: Attempt) -> None:
    result = attempt.run([attempt.script(TORN)])
    assert result.code == 0
    lines = (attempt.folder / "records-0.jsonl").read_text().splitlines()
    assert [json.loads(lines[index])["step"] for index in (0, 2)] == [1, 5]
    assert len(lines) == 3
    assert "records are written again; 3 were lost" in result.stderr


def test_outside_a_job_rank_0_prints(attempt: Attempt) -> None:
    source = """
import trainforge
trainforge.report(epoch=1, epochs=3, step=20, steps=60, loss=0.69314718, lr=1e-5)
with trainforge.phase("evaluate"): pass
"""
    script = attempt.script(source)
    printed = attempt.run([script], attempt.outside).stdout.splitlines()
    assert printed == ["epoch 1/3  step 20/60  loss 0.693147  lr 1e-05", "evaluate: 0.0 s"]
    assert attempt.run([script], {**attempt.outside, "RANK": "1"}).stdout == ""
    assert attempt.records() == []


def test_a_report_takes_at_most_20_microseconds(in_attempt: Attempt) -> None:
    def batch() -> float:
        started = time.perf_counter()
        for step in range(200):
            trainforge.report(step=step, epoch=1, loss=0.5, accuracy=0.75, lr=0.1)
        return (time.perf_counter() - started) / 200

    batch()
    assert min(batch() for _ in range(30)) <= 20e-6
