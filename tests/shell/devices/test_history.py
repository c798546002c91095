"""The last ten minutes of each GPU, and how samples reach those who wait for them."""

from __future__ import annotations

import asyncio

from tests.support import until
from trainforge.api import GpuHistory
from trainforged.devices.feed import Feed
from trainforged.devices.history import History
from trainforged.devices.inventory import Sample
from trainforged.devices.simulated import SimulatedInventory


def sample(utilisation: int | None, uuid: str = "GPU-0", **more: object) -> Sample:
    return Sample(uuid=uuid, index=0, utilisation=utilisation, memory_used=2**33, power=70.25, **more)


def filled(samples: int, seconds: int = 600) -> History:
    """One sample a second from 1000 on; the utilisation counts up from 0."""
    history = History(seconds)
    for second in range(samples):
        history.add(1000.5 + second, [sample(second)])
    return history


def test_the_newest_come_last() -> None:
    assert filled(5).of("GPU-0", seconds=3) == GpuHistory(
        every=1,
        utilisation=(2, 3, 4),
        memory=(2**33,) * 3,
        temperature=(None,) * 3,
        power=(70.2,) * 3,
    )


def test_what_was_before_the_first_sample_is_a_gap() -> None:
    assert filled(2).of("GPU-0", seconds=4).utilisation == (None, None, 0, 1)


def test_it_holds_the_last_seconds_and_no_more() -> None:
    history = filled(25, seconds=10)

    assert history.of("GPU-0").utilisation == tuple(range(15, 25))


def test_values_are_averaged_to_the_points_asked_for() -> None:
    history = filled(600)

    assert history.of("GPU-0", seconds=600, points=60).utilisation == tuple(range(4, 600, 10))
    assert history.of("GPU-0", seconds=60, points=60).every == 1
    few = history.of("GPU-0", seconds=100, points=7)
    assert (few.every, len(few.power), few.utilisation[-1]) == (15, 6, 592)


def test_missed_seconds_and_old_news_are_gaps() -> None:
    history = filled(2)
    history.add(1003, [sample(3)])
    history.add(1004, [sample(4, stale=True)])
    history.add(1005, [sample(None, lost="gone")])
    history.add(1006, [])
    history.add(1007, [sample(7)])

    assert history.of("GPU-0", seconds=8).utilisation == (0, 1, None, 3, None, None, None, 7)


def test_a_long_pause_leaves_nothing_of_before() -> None:
    history = filled(10, seconds=10)
    history.add(9_000_000, [sample(1)])

    assert history.of("GPU-0").utilisation == (None,) * 9 + (1,)


def test_a_second_that_comes_twice_holds_the_later() -> None:
    history = filled(3)
    history.add(1002.9, [sample(50)])

    assert history.of("GPU-0", seconds=3).utilisation == (0, 1, 50)


def test_a_gpu_that_is_gone_is_forgotten() -> None:
    history = filled(3, seconds=10)
    for second in range(1003, 1012):
        history.add(second, [sample(1, "GPU-1")])
    assert history.of("GPU-0").utilisation == (2, *(None,) * 9)

    history.add(1012, [sample(1, "GPU-1")])

    nothing = GpuHistory(every=1, utilisation=(), memory=(), temperature=(), power=())
    assert history.of("GPU-0") == nothing
    assert len(history.of("GPU-1").utilisation) == 10


async def test_whoever_waits_gets_what_is_new() -> None:
    feed = Feed(SimulatedInventory(1, "here"), clock=lambda: 1000.0)
    feed.publish((sample(1),))
    updates = feed.updates()
    waiting = asyncio.ensure_future(anext(updates))
    await asyncio.sleep(0)

    feed.publish((sample(2),))
    assert await waiting == (sample(2),)

    feed.publish((sample(3),))
    feed.publish((sample(4),))
    assert await anext(updates) == (sample(4),), "whoever is slow gets the newest"
    assert feed.latest == (sample(4),)
    assert feed.history.of("GPU-0", seconds=1).utilisation == (4,)


async def test_one_who_stops_waiting_does_not_disturb_the_others() -> None:
    feed = Feed(SimulatedInventory(1, "here"))
    impatient, patient = (asyncio.ensure_future(anext(feed.updates())) for _ in range(2))
    await asyncio.sleep(0)

    impatient.cancel()
    await asyncio.sleep(0)
    feed.publish((sample(1),))

    assert await patient == (sample(1),)
    assert impatient.cancelled()


async def test_the_loop_keeps_its_pace_and_does_not_catch_up() -> None:
    inventory = SimulatedInventory(2, "here")
    feed = Feed(inventory, interval=0.001)
    running = asyncio.ensure_future(feed.run())
    updates = feed.updates()

    seen = [await anext(updates) for _ in range(3)]
    running.cancel()

    assert [len(samples) for samples in seen] == [2, 2, 2]
    assert seen[0] is not seen[1]


class Slow(SimulatedInventory):
    """Answers when it is told to, with what was so when it was asked."""

    def __init__(self) -> None:
        super().__init__(1, "here")
        self.use, self.asked = 1, 0
        self.answers = asyncio.Semaphore(0)

    async def sample(self) -> tuple[Sample, ...]:
        found = (sample(self.use),)
        self.asked += 1
        await self.answers.acquire()
        return found


async def test_an_answer_that_was_under_way_is_not_taken_for_what_is_so_now() -> None:
    feed = Feed(slow := Slow(), interval=0.001)
    running = asyncio.ensure_future(feed.run())
    await until(lambda: slow.asked == 1)

    slow.use = 2
    waiting = asyncio.ensure_future(anext(feed.updates_asked_for()))
    await asyncio.sleep(0)
    slow.answers.release()
    await until(lambda: slow.asked == 2)
    assert not waiting.done(), "that was of before"
    slow.answers.release()

    assert await waiting == (sample(2),)
    running.cancel()
