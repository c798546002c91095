"""The Checkpointer: what is saved comes back, whole, whatever happened in between."""

from __future__ import annotations

import copy
import math
import os
import resource
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.job.attempt import Attempt
from trainforge import protocol
from trainforge.in_job import manifests

torch = pytest.importorskip("torch")
from tests.job.training import Training  # noqa: E402  # needs torch
from trainforge import Checkpointer  # noqa: E402
from trainforge.in_job import host_memory, publishing, snapshot  # noqa: E402
from trainforge.in_job.snapshot import Snapshot  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("in_attempt")]


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


# ---------------------------------------------------------------- which are kept


def test_the_newest_are_kept(attempt: Attempt) -> None:
    saved(attempt, *range(1, 8))
    assert steps(attempt) == [5, 6, 7]
    saved(attempt, 8, keep=1)
    assert steps(attempt) == [8]
    assert sorted(os.listdir(attempt.checkpoints)) == ["step-0000000008"]


def test_the_job_says_how_many(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(protocol.CHECKPOINT_KEEP, "2")
    saved(attempt, *range(1, 5))
    assert steps(attempt) == [3, 4]


def test_the_best_is_kept_too(attempt: Attempt) -> None:
    ckpt = Checkpointer(state={}, keep=2)
    metrics = [0.1, 0.9, 0.5, math.nan, 0.9, 0.2]
    for step, metric in enumerate(metrics):
        ckpt.save(step, metric=metric)
    ckpt.close()
    assert steps(attempt) == [1, 4, 5]
    best = manifests.best_whole(str(attempt.checkpoints), verify=True)
    assert best is not None
    assert (best.step, best.metrics) == (1, {"metric": 0.9})
    assert [(record["best"], record["metrics"]) for record in attempt.records("checkpoint")[:4]] == [
        (True, {"metric": 0.1}),
        (True, {"metric": 0.9}),
        (False, {"metric": 0.5}),
        (False, None),
    ]
    ckpt = Checkpointer(state={}, keep=2)  # a later attempt knows it still
    ckpt.resume()
    ckpt.save(6, metric=0.8)
    ckpt.save(7, metric=1.0)
    ckpt.close()
    assert steps(attempt) == [6, 7]


def test_saving_a_step_again_replaces_it(attempt: Attempt) -> None:
    saved(attempt, 1, 2)
    state = {"again": True}
    ckpt = Checkpointer(state=state)
    ckpt.save(2)
    ckpt.save(2)
    ckpt.close()
    assert resumed() == (2, {"again": True})
    assert steps(attempt) == [1, 2]


def test_a_step_saved_again_lower_down_is_the_newest(attempt: Attempt) -> None:
    saved(attempt, 10, 20, 30)
    saved(attempt, 15)
    assert steps(attempt) == [20, 30, 15]
    assert resumed() == (15, {"step": 15})


def test_what_others_left_in_the_folder_stays(attempt: Attempt) -> None:
    foreign = folder(attempt, 2)
    foreign.mkdir(parents=True)
    (foreign / "weights").write_text("of another tool")
    (attempt.checkpoints / "notes").write_text("mine")
    saved(attempt, 1, 2, 3, 4)
    assert steps(attempt) == [2, 3, 4]
    (moved,) = attempt.checkpoints.glob("step-0000000002.old-*")
    assert (moved / "weights").read_text() == "of another tool"
    assert (attempt.checkpoints / "notes").exists()


def test_what_a_killed_run_left_is_removed(attempt: Attempt) -> None:
    for name in (".trainforge-saving-0000000001-0badf00d-1", ".trainforge-removing-step-0000000001-7"):
        (attempt.checkpoints / name).mkdir(parents=True)
        (attempt.checkpoints / name / "state.pt.tmp").write_text("half")
    saved(attempt, 1)
    assert os.listdir(attempt.checkpoints) == ["step-0000000001"]


# ---------------------------------------------------------------- damage


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "bytes": (lambda path: flip(path / "state.pt"), "state.pt is damaged"),
    "random states": (lambda path: flip(path / "rank-0.pt"), "rank-0.pt is damaged"),
    "cut": (lambda path: os.truncate(path / "state.pt", 100), "state.pt has 100 of"),
    "rank missing": (lambda path: (path / "rank-0.pt").unlink(), "rank-0.pt is missing"),
    "manifest missing": (lambda path: (path / "manifest.json").unlink(), "it was not finished"),
    "manifest cut": (lambda path: os.truncate(path / "manifest.json", 9), "manifest.json is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_skipped_with_a_word(
    attempt: Attempt, capfd: pytest.CaptureFixture[str], damage: str
) -> None:
    spoil, problem = DAMAGES[damage]
    saved(attempt, 1, 2, 3)
    spoil(folder(attempt, 3))
    spoil(folder(attempt, 2))
    assert resumed() == (1, {"step": 1})
    skipped = attempt.records("checkpoint_skipped")
    assert {record["path"] for record in skipped} == {str(folder(attempt, 3)), str(folder(attempt, 2))}
    assert all(record["problem"].startswith(problem) for record in skipped)
    assert capfd.readouterr().err.count("is skipped: " + problem) == 2

    saved(attempt, 2, 3, 4)  # goes on over the damaged ones
    assert steps(attempt) == [2, 3, 4]


def test_none_whole_is_the_beginning(attempt: Attempt) -> None:
    saved(attempt, 1)
    flip(folder(attempt, 1) / "state.pt")
    assert resumed() == (0, {})
    assert attempt.records("resumed") == []


def test_where_to_resume_from_is_tried_first(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(attempt, 5)
    elsewhere = attempt.folder / "another"
    shutil.move(folder(attempt, 5), elsewhere)
    saved(attempt, 1, 2)
    monkeypatch.setenv(protocol.RESUME_FROM, str(elsewhere))
    assert resumed() == (5, {"step": 5})
    flip(elsewhere / "state.pt")
    assert resumed() == (2, {"step": 2})
    flip(folder(attempt, 2) / "state.pt")
    monkeypatch.setenv(protocol.RESUME_FROM, str(folder(attempt, 2)))
    assert resumed() == (1, {"step": 1})
    paths = [Path(record["path"]).name for record in attempt.records("checkpoint_skipped")]
    assert paths == ["another", "step-0000000002"]  # the last one is not looked at twice


# ---------------------------------------------------------------- a full disk


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], None]]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [1000, 100_000, 7_999_000])
def test_a_full_disk_is_survived(
    attempt: Attempt, small_disk: Callable[[int], None], capfd: pytest.CaptureFixture[str], size: int
) -> None:
    state: dict[str, Any] = {"big": torch.zeros(2_000_000)}
    ckpt = Checkpointer(state=state)
    ckpt.save(1)
    ckpt.close()
    small_disk(size)
    ckpt.save(2)
    ckpt.close()
    small_disk(resource.RLIM_INFINITY)
    assert steps(attempt) == [1]
    assert os.listdir(attempt.checkpoints) == ["step-0000000001"]
    assert "step-0000000002 was not written: File too large; training goes on" in capfd.readouterr().err
    ckpt.save(3)
    ckpt.close()
    assert steps(attempt) == [1, 3]


def test_a_folder_that_cannot_be_made_is_survived(attempt: Attempt) -> None:
    attempt.checkpoints.write_text("a file is in the way")
    ckpt = Checkpointer(state={})
    assert ckpt.resume() == 0
    ckpt.save(1)
    ckpt.close()
    (record,) = attempt.records("checkpoint_skipped")
    assert record["problem"] == "not written: Not a directory"


def test_a_state_that_cannot_be_written_is_raised_by_the_next_call(attempt: Attempt) -> None:
    class Unpicklable:
        def state_dict(self) -> Any:
            return {"f": lambda: 0}

        def load_state_dict(self, state: Any) -> None: ...

    ckpt = Checkpointer(thing=Unpicklable())
    ckpt.save(1)
    with pytest.raises(Exception, match="pickle"):
        ckpt.close()
    ckpt.close()
    assert os.listdir(attempt.checkpoints) == []


# ---------------------------------------------------------------- several ranks


def order(attempt: Attempt, rank: int, step: int = 1, world_size: int = 2) -> publishing.Order:
    return publishing.Order(str(attempt.checkpoints), step, 1, rank, world_size, None, 3)


def test_it_is_published_when_every_rank_has_written(attempt: Attempt) -> None:
    states = {"step": 1, "objects": {"state": {}}}
    made: list[Any] = []
    thread = threading.Thread(
        target=lambda: made.append(publishing.write_all(order(attempt, 0, 1, 3), {}, states))
    )
    thread.start()
    publishing.write_rank(order(attempt, 2, 1, 3), {})
    assert thread.is_alive()
    assert steps(attempt) == []
    publishing.write_rank(order(attempt, 1, 1, 3), {})
    thread.join(20)
    assert (steps(attempt), made[0].world_size) == ([1], 3)
    assert [file.name for file in made[0].files] == ["state.pt", "rank-0.pt", "rank-1.pt", "rank-2.pt"]


def test_a_rank_that_never_saves_is_named(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    saved(attempt, 1)
    monkeypatch.setattr(publishing, "PATIENCE", 0.05)
    monkeypatch.setenv("WORLD_SIZE", "2")
    saved(attempt, 2)
    assert steps(attempt) == [1]
    assert "nothing from rank 1 in 0 s (all ranks have to call save)" in capfd.readouterr().err


def test_a_rank_that_could_not_write_is_not_waited_for(
    attempt: Attempt, small_disk: Callable[[int], None]
) -> None:
    small_disk(0)
    with pytest.raises(OSError, match="File too large"):
        publishing.write_rank(order(attempt, 1), {"random": 1})
    small_disk(resource.RLIM_INFINITY)
    with pytest.raises(OSError, match="rank 1 could not write its file"):
        publishing.write_all(order(attempt, 0), {}, {})
    assert os.listdir(attempt.checkpoints) == []


def test_a_rank_that_was_not_there_keeps_its_random_states(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    saved(attempt, 3)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    assert resumed() == (3, {"step": 3})
    assert torch.equal(torch.rand(1), expected)
    assert "was saved by fewer ranks: rank 1 keeps the random states it has" in capfd.readouterr().err


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


# ---------------------------------------------------------------- the copy


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.randn(3, 5, 7),
        lambda: torch.randn(8, 16, 3, 3).to(memory_format=torch.channels_last),
        lambda: torch.randn(6, 4).t(),
        lambda: torch.randn(10, 10)[::2, 1:],  # with gaps
        lambda: torch.randn(4).expand(3, 4),  # one element in several places
        lambda: torch.randn(3_000_000),  # several pieces
        lambda: torch.randn(4, dtype=torch.complex64).conj(),
        lambda: torch.randn(5).to(torch.bfloat16),
        lambda: torch.arange(3, dtype=torch.uint8),
        lambda: torch.tensor(7),
        lambda: torch.empty(0, 3),
    ],
    ids=[
        "plain", "channels last", "transposed", "gaps", "expanded", "large", "conjugate", "bfloat16", "bytes",
        "scalar", "empty",
    ],
)  # fmt: skip
def test_a_snapshot_is_a_copy_whatever_the_layout(make: Callable[[], Any]) -> None:
    snapshot = Snapshot()
    for _ in range(2):  # the second into the same memory
        tensor, after = make(), torch.randn(100)
        expected = tensor.clone()
        taken = snapshot.take({"a": after[:0], "tensor": tensor, "after": after})
        snapshot.finish()
        if tensor.numel() and not tensor.is_conj() and tensor.stride()[:1] != (0,):
            tensor.zero_()
        assert torch.equal(taken["tensor"], expected)
        assert taken["tensor"].dtype == expected.dtype
        assert torch.equal(taken["after"], after)
        assert taken["after"].untyped_storage().nbytes() == 400, "what is written is the tensor alone"


def test_every_byte_of_many_tensors_is_copied_by_several_threads() -> None:
    sizes = [1, 63, 64, 65, 2**20, 4 * 2**20 + 1, 12 * 2**20]
    sources = [torch.randint(256, (size,), dtype=torch.uint8) for size in sizes]
    arena = host_memory.Arena()
    targets = [arena.like(source) for source in sources]
    pairs = zip(targets, sources, strict=True)
    host_memory.copy_all([host_memory.Copy(t.data_ptr(), s.data_ptr(), len(s)) for t, s in pairs])
    assert all(torch.equal(t, s) for t, s in zip(targets, sources, strict=True))
    assert [target.data_ptr() % 64 for target in targets] == [0] * len(sizes)
