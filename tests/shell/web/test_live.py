"""`Live`: every reader gets every event once, in order, however slow it is and whenever it came."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shell.fake_service import NOW, FakeService
from trainforge.api import EventList, EventView, GpuList, JobProgress
from trainforged.web.live import PAGE, Cursor, Live


def happened(id: int, job: int | None = None) -> EventView:
    return EventView(id=id, time=NOW, type="job_started", job=job, message="")


async def read(cursor: Cursor) -> list[int]:
    found: list[int] = []
    while cursor.behind:
        found += [event.id for event in await cursor.events()]
    return found


async def test_a_new_reader_gets_what_happens_from_now_on() -> None:
    service = FakeService()
    service.happen("before")
    cursor = service.live.listen(None, None, service.events)

    assert await read(cursor) == []
    service.happen("after")
    assert await read(cursor) == [2]


async def test_a_reader_with_a_place_gets_what_it_missed() -> None:
    service = FakeService(keep=3)
    for _ in range(10):
        service.happen("one")

    assert await read(service.live.listen(0, None, service.events)) == list(range(1, 11))
    assert await read(service.live.listen(8, None, service.events)) == [9, 10]


async def test_a_place_of_another_database_is_the_newest() -> None:
    service = FakeService()
    service.happen("one")
    cursor = service.live.listen(5000, None, service.events)

    service.happen("two")

    assert await read(cursor) == [2]


async def test_many_events_come_in_pages() -> None:
    service = FakeService(keep=10)
    for _ in range(2 * PAGE + 5):
        service.happen("one")
    cursor = service.live.listen(0, None, service.events)

    assert [len(await cursor.events()) for _ in range(4)] == [PAGE, PAGE, 5, 0]


async def test_an_event_committed_during_the_query_is_given_once() -> None:
    """The query may see more than what was published when it began."""
    service = FakeService(keep=1)
    service.happen("one", 1)
    service.happen("two", 2)
    service.history.append(happened(3, 1))  # committed, not yet published
    cursor = service.live.listen(0, 1, service.events)

    first = await read(cursor)
    service.live.publish([service.history[-1]])
    service.happen("four", 1)

    assert [*first, *await read(cursor)] == [1, 3, 4]


async def test_an_event_published_during_the_query_that_missed_it_is_given() -> None:
    service = FakeService(keep=1)
    for _ in range(3):
        service.happen("one", 1)

    async def query(after: int, job: int | None, limit: int) -> EventList:
        page = await service.events(after, job, limit)
        if len(service.history) == 3:
            service.happen("meanwhile", 1)
        return page

    assert await read(service.live.listen(0, 1, query)) == [1, 2, 3, 4]


@settings(max_examples=60, deadline=None)
@given(
    keep=st.integers(1, 8),
    start=st.none() | st.integers(0, 12),
    job=st.none() | st.just(1),
    steps=st.lists(st.sampled_from(["publish", "publish", "read"]), max_size=40),
    owners=st.lists(st.sampled_from([None, 1, 2]), min_size=60, max_size=60),
)
def test_no_gap_and_no_double(
    keep: int, start: int | None, job: int | None, steps: list[str], owners: list[int | None]
) -> None:
    async def history() -> None:
        service = FakeService(keep=keep)
        for i in range(10):
            service.happen("past", owners[i])
        begin = 10 if start is None else min(start, 10)
        cursor = service.live.listen(start, job, service.events)
        got: list[int] = []
        for step in steps:
            if step == "publish":
                service.happen("now", owners[len(service.history)])
            else:
                got += [event.id for event in await cursor.events()]
        got += await read(cursor)
        assert got == [e.id for e in service.history if e.id > begin and job in (None, e.job)]

    asyncio.run(history())


async def test_progress_is_the_latest_per_job() -> None:
    live = Live()
    cursor = live.listen(None, None, FakeService().events)
    of_two = live.listen(None, 2, FakeService().events)
    for job in (1, 2, 1):
        live.progress(JobProgress(job=job))
    live.gpus(GpuList(gpus=()))

    assert ([news.job for news in cursor.news()[0]], cursor.has_news) == ([2, 1], False)
    assert cursor.news() == ([], None)
    assert ([news.job for news in of_two.news()[0]], of_two.has_news) == ([2], False)
    live.gpus(GpuList(gpus=()))
    assert cursor.news() == ([], GpuList(gpus=()))
    assert of_two.news() == ([], None)


async def test_memory_is_bounded_whoever_reads() -> None:
    live = Live(keep=10)
    asleep = live.listen(None, None, FakeService().events)
    for id in range(1, 5000):
        live.publish([happened(id)])
        live.progress(JobProgress(job=id))

    assert len(live._recent) == 10
    assert len(live._progress) <= 1000
    assert live.watched
    asleep.close()
    assert not live.watched


async def test_a_reader_that_was_told_lately_is_woken_by_events_alone() -> None:
    live = Live()
    cursor = live.listen(None, None, FakeService().events)
    waiting = asyncio.create_task(cursor.wait(60, news=False))
    await asyncio.sleep(0)

    live.gpus(GpuList(gpus=()))
    assert cursor.has_news
    assert not cursor.woken.is_set()
    live.publish([happened(1)])

    await asyncio.wait_for(waiting, 60)


async def test_a_waiting_reader_is_woken() -> None:
    live = Live()
    cursor = live.listen(None, None, FakeService().events)
    waiting = asyncio.create_task(cursor.wait(600))
    await asyncio.sleep(0)

    live.publish([happened(1)])

    await asyncio.wait_for(waiting, 60)
    await cursor.wait(0)  # the news was taken: this one runs into its time
    assert not cursor.woken.is_set()
