"""What a save copies, and what several ranks write of it."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.job.attempt import Attempt

torch = pytest.importorskip("torch")
from tests.job.saving import resumed, saved, steps  # noqa: E402
from trainforge.in_job import host_memory, publishing  # noqa: E402
from trainforge.in_job.snapshot import Snapshot  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("in_attempt")]

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
    thread.join(100)
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
