"""Of reads that take long, few go on at once: with real threads, that wait where a test wants them to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from trainforged.daemon.answering.reading import Readers
from trainforged.storage.errors import StorageBroken
from trainforged.web.errors import ApiProblem

PATIENCE = 60.0  # s: only bounds the waiting of a test that fails


class Reads:
    """Threads that read until they are let go; how many did at once."""

    def __init__(self) -> None:
        self.now = self.most = self.begun = 0
        self.go = threading.Semaphore(0)
        self._changing = threading.Condition()

    def one(self, number: int) -> int:
        with self._changing:
            self.now += 1
            self.begun += 1
            self.most = max(self.most, self.now)
            self._changing.notify_all()
        assert self.go.acquire(timeout=PATIENCE)
        with self._changing:
            self.now -= 1
        return 10 * number

    async def have_begun(self, count: int) -> None:
        def wait() -> bool:
            with self._changing:
                return self._changing.wait_for(lambda: self.begun >= count, PATIENCE)

        assert await asyncio.to_thread(wait)


@pytest.fixture
def reads() -> Iterator[Reads]:
    made = Reads()
    yield made
    for _ in range(1000):
        made.go.release()


@pytest.mark.parametrize("most", [1, 3])
async def test_no_more_read_at_once_than_may(reads: Reads, most: int) -> None:
    readers = Readers(most)
    asked = [asyncio.ensure_future(readers.read(reads.one, number)) for number in range(20)]
    await reads.have_begun(most)
    for _ in range(100):
        await asyncio.sleep(0)
    assert reads.begun == most, "the others wait"
    for number in range(20):
        reads.go.release()
        await reads.have_begun(min(20, number + 1 + most))
    assert await asyncio.gather(*asked) == [10 * number for number in range(20)]
    assert reads.most == most


async def test_a_thread_whose_client_has_left_keeps_its_place_until_it_ends(reads: Reads) -> None:
    readers = Readers(1)
    left = asyncio.ensure_future(readers.read(reads.one, 1))
    await reads.have_begun(1)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    waited = asyncio.ensure_future(readers.read(reads.one, 2))
    left_waiting = asyncio.ensure_future(readers.read(reads.one, 3))
    last = asyncio.ensure_future(readers.read(reads.one, 4))
    for _ in range(100):
        await asyncio.sleep(0)
    left_waiting.cancel()
    assert reads.begun == 1, "clients who leave let nobody in"
    for _ in range(3):
        reads.go.release()
    assert await asyncio.gather(waited, last) == [20, 40]
    assert (reads.most, reads.begun) == (1, 3), "what nobody waited for any more was not read"


async def test_a_read_that_fails_gives_its_place_back() -> None:
    readers = Readers(1)

    def fails() -> None:
        raise StorageBroken("the disk does not answer")

    for _ in range(3):
        with pytest.raises(ApiProblem, match="the disk does not answer"):
            await readers.read(fails)
    assert await readers.read(lambda: 7) == 7
