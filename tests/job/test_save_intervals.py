"""`save(step, every=…)`: a kill at any moment costs so many steps at most, however long a save takes."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.job.attempt import Attempt
from trainforge.in_job import manifests

pytest.importorskip("torch")
from trainforge import Checkpointer  # needs torch
from trainforge.in_job import checkpoint, publishing

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("in_attempt")]


def newest(attempt: Attempt) -> int:
    found = manifests.newest_whole(str(attempt.checkpoints), verify=True)
    return 0 if found is None or found.step is None else found.step


@pytest.mark.parametrize(
    ("every", "saved"),
    [
        (1, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (2, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (3, [2, 3, 5, 6, 8, 9]),
        (4, [2, 4, 6, 8, 10]),
        (9, [5, 9]),
        (10, [5, 10]),
        (30, []),
    ],
)
def test_it_saves_twice_in_each_so_many_steps(attempt: Attempt, every: int, saved: list[int]) -> None:
    ckpt = Checkpointer(state={})
    for step in range(1, 11):
        ckpt.save(step, every=every)
    ckpt.close()
    assert [record["step"] for record in attempt.records("checkpoint")] == saved


@pytest.mark.parametrize("every", range(1, 12))
def test_three_saves_in_a_row_span_no_more_from_wherever_it_goes_on(every: int) -> None:
    for start in range(3 * every):
        begun = [start]
        for step in range(start + 1, start + 6 * every):
            if checkpoint.is_due(step, begun[-1], every):
                begun.append(step)
        spans = [later - first for first, later in zip(begun, begun[2:], strict=False)]
        assert max(spans) <= max(every, 2)  # with one step, it is waited for as well


def test_it_goes_on_counting_where_it_was_resumed(attempt: Attempt) -> None:
    first = Checkpointer(state={})
    first.save(7)
    first.close()
    ckpt = Checkpointer(state={})
    for step in range(ckpt.resume() + 1, 16):
        ckpt.save(step, every=8)
    ckpt.close()
    assert [record["step"] for record in attempt.records("checkpoint")] == [7, 8, 12]


@pytest.mark.parametrize("every", [1, 2, 5, 6])
def test_no_step_is_made_that_a_kill_could_cost_beyond_the_interval(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], every: int
) -> None:
    """Each save takes until training stands still."""
    write, finish = publishing.write_all, Checkpointer.wait
    still = threading.Event()
    step, lost = 0, []

    def wait(ckpt: Checkpointer) -> None:
        if ckpt._writer is not None:
            still.set()
        finish(ckpt)

    def write_slowly(*given: Any) -> Any:
        assert still.wait(120)
        still.clear()
        lost.append(step - newest(attempt))
        return write(*given)

    ckpt = Checkpointer(state={})
    monkeypatch.setattr(publishing, "write_all", write_slowly)
    monkeypatch.setattr(Checkpointer, "wait", wait)
    for step in range(1, 5 * every + 1):
        ckpt.save(step, every=every)
    ckpt.close()
    assert max(lost) == every
    assert newest(attempt) == 5 * every
    assert capfd.readouterr().err.count("training waits for saves") == (every > 1)


def test_one_wait_alone_is_not_complained_of(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Such as for the save of a run that is asked to stop."""
    still = threading.Event()
    write = publishing.write_all
    monkeypatch.setattr(publishing, "write_all", lambda *given: (still.wait(60), write(*given))[1])
    ckpt = Checkpointer(state={})
    ckpt.save(1)
    threading.Timer(0.05, still.set).start()
    ckpt.save(2)
    ckpt.close()
    assert newest(attempt) == 2
    assert capfd.readouterr().err == ""


def test_what_was_waited_for_is_whole(attempt: Attempt) -> None:
    ckpt = Checkpointer(state={})
    ckpt.save(3)
    ckpt.wait()
    assert newest(attempt) == 3
    ckpt.wait()  # once more: there is nothing to wait for


@pytest.mark.parametrize("every", [0, -5])
def test_an_interval_is_a_step_at_least(every: int) -> None:
    with pytest.raises(ValueError, match=f"every: expected 1 or more steps, found {every}"):
        Checkpointer(state={}).save(1, every=every)
