"""The Checkpointer: what is saved comes back, whole, whatever happened in between."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest

from tests.job.attempt import Attempt
from trainforge import protocol

torch = pytest.importorskip("torch")
from tests.job.saving import folder, resumed, saved, steps  # noqa: E402
from tests.job.training import Training  # noqa: E402  # needs torch
from trainforge import Checkpointer  # noqa: E402
from trainforge.in_job import host_memory, snapshot  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("in_attempt")]

# ---------------------------------------------------------------- continuing


@pytest.mark.parametrize("at", [1, 5])
def test_a_continued_training_is_the_same_bit_for_bit(at: int) -> None:
    whole = Training()
    for _ in range(12):
        whole.step()
    expected = whole.fingerprint()

    first = Training()
    ckpt = Checkpointer(**first.objects)
    assert ckpt.resume() == 0
    for _ in range(at):
        first.step()
    ckpt.save(at)
    for _ in range(3):  # goes on while it is written, and is lost
        first.step()
    ckpt.close()

    second = Training(seed=99)
    ckpt = Checkpointer(**second.objects)
    assert ckpt.resume() == at
    for _ in range(at, 12):
        second.step()
    assert second.fingerprint() == expected


def test_nothing_between_an_exact_resume_and_ready_leaves_a_trace() -> None:
    whole = Training()
    for _ in range(3):
        whole.step()
    ckpt = Checkpointer(**whole.objects)
    ckpt.save(3)
    for _ in range(3):
        whole.step()
    ckpt.close()
    expected = whole.fingerprint()

    second = Training(seed=99)
    ckpt = Checkpointer(**second.objects)
    assert ckpt.resume(exact=True) == 3
    assert second.progress["seen"] == 24
    for _ in range(2):
        second.step()
    second.optimizer.zero_grad()
    ckpt.ready()
    for _ in range(3):
        second.step()
    assert second.fingerprint() == expected
    ckpt.ready()  # once more changes nothing
    ckpt.save(6)
    ckpt.close()


def test_saving_without_ready_is_told(attempt: Attempt, capfd: pytest.CaptureFixture[str]) -> None:
    saved(attempt, 1)
    ckpt = Checkpointer(state={})
    ckpt.resume(exact=True)
    ckpt.save(2)
    ckpt.close()
    assert "save() before ready()" in capfd.readouterr().err


def test_records_tell_what_was_saved_and_resumed(attempt: Attempt) -> None:
    saved(attempt, 1, 2)
    assert resumed() == (2, {"step": 2})
    first, second = attempt.records("checkpoint")
    path = folder(attempt, 2)
    size = sum((path / name).stat().st_size for name in ("state.pt", "rank-0.pt"))
    assert (first["step"], second["step"], second["path"], second["size"]) == (1, 2, str(path), size)
    assert 0 < second["seconds"] < 10
    (record,) = attempt.records("resumed")
    assert (record["step"], record["path"]) == (2, str(path))


def test_what_is_saved_does_not_change_after_save_returns(attempt: Attempt) -> None:
    weight = torch.nn.Linear(1000, 1000)
    progress: dict[str, Any] = {"list": [1], "array": torch.arange(5).numpy()}
    ckpt = Checkpointer(model=weight, progress=progress)
    for step in range(1, 6):
        with torch.no_grad():
            weight.weight.fill_(step)
        progress["array"][:] = step
        progress["list"][0] = step
        ckpt.save(step)
        with torch.no_grad():
            weight.weight.fill_(-1)
        progress["array"][:] = -1
        progress["list"][0] = -1
    ckpt.close()
    assert Checkpointer(model=weight, progress=progress).resume() == 5
    assert torch.equal(weight.weight, torch.full((1000, 1000), 5.0))
    assert (progress["list"], progress["array"].tolist()) == ([5], [5] * 5)


def momentum(weight: Any) -> Any:
    """An optimizer with enough of a state to be copied later, and the state."""
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    weight.sum().backward()
    optimizer.step()
    return optimizer, optimizer.state[weight]["momentum_buffer"]


def saved_momentum(attempt: Attempt, step: int) -> Any:
    state = torch.load(folder(attempt, step) / "state.pt", weights_only=False)
    return state["objects"]["optimizer"]["state"][0]["momentum_buffer"]


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
def test_an_optimizer_waits_with_its_step_until_its_state_is_copied(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    weight = torch.nn.Parameter(torch.ones(100_000))
    optimizer, kept = momentum(weight)
    step = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
    ckpt = Checkpointer(optimizer=optimizer)
    ckpt.save(1)
    ckpt.wait()
    step()  # what there is to compile is compiled
    copying, go, done = threading.Event(), threading.Event(), threading.Event()
    copy_all = host_memory.copy_all

    def slowly(copies: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            copying.set()
            assert go.wait(120)
        copy_all(copies)

    monkeypatch.setattr(snapshot, "copy_all", slowly)
    ckpt.save(2)
    assert copying.wait(120)
    stepping = threading.Thread(target=lambda: (step(), done.set()))
    stepping.start()
    assert not done.wait(0.5), "it waits"
    go.set()
    assert done.wait(120)
    stepping.join()
    ckpt.close()
    assert torch.equal(saved_momentum(attempt, 2), torch.full((100_000,), 1.9))
    assert torch.equal(kept, torch.full((100_000,), 0.9 * 1.9 + 1))


def test_an_optimizer_of_others_is_copied_at_once(attempt: Attempt) -> None:
    class Own(torch.optim.SGD):
        """Whatever it does, and whenever."""

    weight = torch.nn.Parameter(torch.ones(100_000))
    optimizer = Own([weight], lr=0.1, momentum=0.9)
    weight.sum().backward()
    optimizer.step()
    ckpt = Checkpointer(optimizer=optimizer)
    ckpt.save(1)
    optimizer.state[weight]["momentum_buffer"].zero_()
    ckpt.close()
    assert torch.equal(saved_momentum(attempt, 1), torch.ones(100_000))


def test_a_state_that_something_else_changed_meanwhile_is_not_written(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    optimizer, kept = momentum(torch.nn.Parameter(torch.ones(100_000)))
    ckpt = Checkpointer(optimizer=optimizer)
    copy_all = host_memory.copy_all

    def meddle(copies: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            kept.zero_()
        copy_all(copies)

    with monkeypatch.context() as patched:
        patched.setattr(snapshot, "copy_all", meddle)
        ckpt.save(1)
        ckpt.wait()
    assert steps(attempt) == []
    ckpt.save(2)
    kept.fill_(3)  # no harm any more
    ckpt.close()
    assert torch.equal(saved_momentum(attempt, 2), torch.zeros(100_000))
    said = capfd.readouterr().err
    assert (
        "step-0000000001 was not written: the state of an optimizer was changed while it was copied" in said
    )


def test_the_interpreter_leaves_when_the_save_is_done(attempt: Attempt) -> None:
    source = """
import torch, trainforge
trainforge.Checkpointer(state={"tensor": torch.ones(3_000_000)}).save(7)
raise SystemExit(5)
"""
    assert attempt.run([attempt.script(source)]).code == 5
    assert steps(attempt) == [7]


def test_a_model_is_saved_without_its_wrappers(attempt: Attempt) -> None:
    model = torch.nn.Linear(2, 2)
    wrapped = torch.compile(torch.nn.DataParallel(model))
    assert all("module" in name for name in wrapped.state_dict())
    ckpt = Checkpointer(model=wrapped)
    ckpt.save(1)
    ckpt.close()
    other = torch.nn.Linear(2, 2)
    assert Checkpointer(model=other).resume() == 1
    assert torch.equal(other.weight, model.weight)
    assert Checkpointer(model=torch.nn.DataParallel(other)).resume() == 1


def test_tied_tensors_stay_one(attempt: Attempt) -> None:
    tensor = torch.rand(1000, 1000)
    ckpt = Checkpointer(state={"a": tensor, "b": tensor, "t": tensor.T})
    ckpt.save(1)
    ckpt.close()
    assert (folder(attempt, 1) / "state.pt").stat().st_size < 9_000_000  # two of four megabytes
    state: dict[str, Any] = {}
    Checkpointer(state=state).resume()
    assert state["a"].data_ptr() == state["b"].data_ptr()
    assert torch.equal(state["t"], tensor.T)
    assert state["t"].stride() == tensor.T.stride()


def test_parts_that_come_and_go_are_told(attempt: Attempt, capfd: pytest.CaptureFixture[str]) -> None:
    ckpt = Checkpointer(old={"a": 1}, both={"b": 2}, none=None)
    ckpt.save(1)
    ckpt.close()
    both: dict[str, int] = {}
    new = {"c": 3}
    assert Checkpointer(new=new, both=both).resume() == 1
    assert (new, both) == ({"c": 3}, {"b": 2})
    told = capfd.readouterr().err
    assert "has no new: it starts anew" in told
    assert "has a old, which was not given" in told


def test_a_whole_one_that_does_not_fit_is_an_error(attempt: Attempt) -> None:
    ckpt = Checkpointer(model=torch.nn.Linear(2, 2))
    ckpt.save(1)
    ckpt.close()
    with pytest.raises(RuntimeError, match=r"(?s)step-0000000001: model does not fit: .*size mismatch"):
        Checkpointer(model=torch.nn.Linear(3, 3)).resume()


# ---------------------------------------------------------------- arguments


def test_arguments_are_checked() -> None:
    with pytest.raises(
        TypeError, match=r"Checkpointer: lr: expected an object with state_dict.* found float"
    ):
        Checkpointer(lr=0.1)
    with pytest.raises(ValueError, match="keep: expected at least 1, found 0"):
        Checkpointer(state={}, keep=0)
    ckpt = Checkpointer(state={})
    with pytest.raises(ValueError, match="step: expected 0 or more, found -1"):
        ckpt.save(-1)
    with pytest.raises(TypeError):
        ckpt.save(1.5)  # type: ignore[arg-type]


def test_outside_a_job_it_uses_checkpoints_here(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(protocol.CHECKPOINT_DIR)
    monkeypatch.chdir(attempt.folder)
    ckpt = Checkpointer(state={})
    assert ckpt.directory == str(attempt.folder / "checkpoints")
    assert Checkpointer("elsewhere", state={}).directory == str(attempt.folder / "elsewhere")
    assert copy.copy(ckpt.directory).startswith("/")
