"""When a GPU may have its next holder: only when the memory of the last one has come back."""

from __future__ import annotations

from collections.abc import AsyncIterator

from trainforge.api import GpuProcess
from trainforged.devices.clear import gpus_clear, unexplained
from trainforged.devices.inventory import Sample

MIB = 2**20


class Story:
    """Samples as they come, one a second of a clock of its own. The last goes on for ever."""

    def __init__(self, *samples: tuple[Sample, ...]) -> None:
        self.now = 5000.0
        self.told = 0
        self._samples = samples

    def clock(self) -> float:
        return self.now

    async def updates(self) -> AsyncIterator[tuple[Sample, ...]]:
        while True:
            self.now += 1
            self.told += 1
            yield self._samples[min(self.told, len(self._samples)) - 1]


def gpu(used: int | None, *processes: GpuProcess, index: int = 0, **more: object) -> Sample:
    memory = None if used is None else used * MIB
    return Sample(
        uuid=f"GPU-{index}",
        index=index,
        memory_total=80000 * MIB,
        memory_used=memory,
        processes=processes,
        **more,
    )


def process(used: int, name: str | None = "python", kind: str = "compute") -> GpuProcess:
    return GpuProcess(pid=77, memory=used * MIB, kind=kind, name=name, user=name and "bob")


async def clear(story: Story, *gpus: str, expected: dict[str, int] | None = None) -> dict[str, str]:
    held = await gpus_clear(gpus or ("GPU-0",), story.updates(), expected, clock=story.clock)
    return held.lost | held.late


async def test_memory_that_comes_back_clears_the_gpu_at_once() -> None:
    story = Story((gpu(9000),), (gpu(3000),), (gpu(512),))

    assert await clear(story) == {}
    assert story.told == 3


async def test_memory_that_does_not_come_back_is_stuck_after_30_seconds() -> None:
    story = Story((gpu(10240),))

    assert await clear(story) == {
        "GPU-0": "30 s after its job ended: 10.0 GiB of its memory are in use, 0 MiB of it by others"
    }
    assert story.told == 30


async def test_one_stuck_gpu_does_not_spoil_the_others() -> None:
    story = Story((gpu(9000, index=0), gpu(9000, index=1)), (gpu(9000, index=0), gpu(4, index=1)))

    assert list(await clear(story, "GPU-0", "GPU-1")) == ["GPU-0"]


async def test_the_desktop_and_other_holders_explain_theirs() -> None:
    desktop, other = process(300, "Xorg", "graphics"), process(2000)

    assert await clear(Story((gpu(2300 + 512, desktop, other),))) == {}
    assert await clear(Story((gpu(2301 + 512, desktop, other),))) != {}


async def test_a_listed_process_that_has_ended_explains_nothing() -> None:
    assert await clear(Story((gpu(9000, process(9000, name=None)),))) != {}


async def test_what_nobody_explained_before_the_lease_is_expected_after_it() -> None:
    before = gpu(1100, process(300, "Xorg", "graphics"))
    after = gpu(1100 + 512)

    assert unexplained(before) == 800 * MIB
    assert await clear(Story((after,)), expected={"GPU-0": 1100 * MIB}) == {}
    assert await clear(Story((after,)), expected={"GPU-0": unexplained(before)}) != {}
    assert unexplained(gpu(None)) == 0


async def test_old_news_settle_nothing() -> None:
    silent = Story((gpu(4, stale=True),))
    assert await clear(silent) == {"GPU-0": "30 s after its job ended: the driver did not say"}

    late = Story((gpu(4, stale=True),), (gpu(9000),), (gpu(4),))
    assert await clear(late) == {}
    assert late.told == 3


async def test_a_gpu_that_is_not_seen_any_more_is_stuck() -> None:
    assert await clear(Story(())) == {"GPU-0": "30 s after its job ended: the driver did not say"}


async def test_a_lost_gpu_is_not_waited_for() -> None:
    story = Story((gpu(None, lost="it has fallen off the bus"), gpu(4, index=1)))

    assert await clear(story, "GPU-0", "GPU-1") == {"GPU-0": "it has fallen off the bus"}
    assert story.told == 1


async def test_where_memory_is_not_told_the_processes_decide() -> None:
    gone = process(9000, name=None)

    assert await clear(Story((gpu(None, process(9000)),))) == {}
    assert await clear(Story((gpu(None, gone),), (gpu(None),))) == {}
    assert await clear(Story((gpu(None, gone),))) == {
        "GPU-0": "30 s after its job ended: process 77 uses 8.8 GiB, but has ended"
    }


async def test_made_up_gpus_and_none_at_all_are_clear_without_a_sample() -> None:
    story = Story(())

    assert await clear(story, "GPU-sim-a", "GPU-sim-b") == {}
    assert await gpus_clear((), story.updates()) == ({}, {})
    assert story.told == 0
