"""People are told: by real servers and scripts, until it has arrived, over restarts, and once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from tests.daemon.hooks import Hooks
from tests.daemon.real import RealDaemon, request, wait_until
from tests.daemon.telling import event, failed, incident, script, until
from trainforge.api.page import Incident
from trainforge.states import JobState
from trainforged.config import Notifications
from trainforged.core import messages as m
from trainforged.core.state import State
from trainforged.daemon.engine import Engine
from trainforged.daemon.notices.delivery import NotDelivered
from trainforged.daemon.notices.letters import KINDS, Letter, letters, notice
from trainforged.daemon.notices.outbox import MOST_FOR_ONE, MOST_LETTERS, Outbox
from trainforged.daemon.notices.watch import NoticeWatch
from trainforged.storage.jobs.store import JobStore

# ---------------------------------------------------------------- from events to letters


class Scene:
    """A watch over a real history; `history` grows as a test says."""

    def __init__(self, folder: Path, deliver: Callable[[Letter], Awaitable[None]]) -> None:
        self.outbox = Outbox(folder / "outbox")
        self.store = JobStore(folder / "trainforge.db").open()
        self.settings = Notifications(webhook="https://one")
        self.deliver = deliver
        self.watch = self._watch()

    def _watch(self) -> NoticeWatch:
        engine = Engine(State(), self.store, perform=lambda effect: None, publish=lambda events: None)
        return NoticeWatch(
            self.outbox, self.store, engine, user="alice", view=self._none, incident=self._no_incident,
            settings=lambda: self.settings, deliver=self.deliver, first_pause=0.02,
        )  # fmt: skip

    async def _none(self, job: int) -> None:
        return None

    async def _no_incident(self, job: int) -> Incident:
        return incident()

    def happen(self, type: str, message: str = "happened") -> None:
        self.watch.hear(self.store.commit([m.Happened(time=time.time(), type=type, message=message)], {}))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.watch = self._watch()
        task = asyncio.create_task(self.watch.run())
        await until(lambda: (self.outbox._folder / "place").exists())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


class Postman:
    """Fails as often as he is told."""

    def __init__(self, failures: int = 0, again: bool = True) -> None:
        self.failures = failures
        self.again = again
        self.brought: list[Letter] = []
        self.tries = 0

    async def __call__(self, letter: Letter) -> None:
        self.tries += 1
        if self.failures:
            self.failures -= 1
            raise NotDelivered("not now", again=self.again)
        self.brought.append(letter)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path, Postman())
    yield scene
    scene.store.close()


def left(scene: Scene) -> list[Path]:
    return list(scene.outbox._folder.glob("*.json"))


async def test_what_happens_is_told_once_and_what_was_before_is_not(scene: Scene) -> None:
    scene.deliver = postman = Postman()
    scene.happen("gpu_set_aside", "before")
    async with scene.running():
        scene.happen("gpu_set_aside", "now")
        scene.happen("gpu_offered")
        await until(lambda: postman.brought and not left(scene))
    async with scene.running():
        scene.happen("gpu_set_aside", "later")
        await until(lambda: len(postman.brought) == 2 and not left(scene))
    assert [one.notice.subject for one in postman.brought] == ["now", "later"]


async def test_what_happens_while_nobody_looks_is_told_afterwards(scene: Scene) -> None:
    scene.deliver = postman = Postman()
    async with scene.running():
        pass
    scene.happen("gpu_set_aside", "meanwhile")
    async with scene.running():
        await until(lambda: postman.brought)
    assert [one.notice.subject for one in postman.brought] == ["meanwhile"]


async def test_a_letter_is_tried_until_it_arrives_over_a_restart(scene: Scene) -> None:
    scene.deliver = postman = Postman(failures=1_000_000)
    async with scene.running():
        scene.happen("gpu_set_aside")
        await until(lambda: postman.tries >= 2)
    assert len(left(scene)) == 1
    postman.failures = 1
    async with scene.running():
        await until(lambda: postman.brought and not left(scene))
    assert postman.brought[0].last_error == "not now"
    assert postman.brought[0].tries >= 3


async def test_a_letter_that_can_never_arrive_is_given_up(scene: Scene) -> None:
    scene.deliver = postman = Postman(failures=1, again=False)
    async with scene.running():
        scene.happen("gpu_set_aside")
        await until(lambda: postman.tries == 1 and not left(scene))
        assert scene.watch.waiting == 0


async def test_what_fails_of_itself_keeps_nothing_else_from_being_sent(scene: Scene) -> None:
    brought: list[str] = []

    async def deliver(letter: Letter) -> None:
        if letter.way == "slack":
            raise RuntimeError("a mistake of ours")
        brought.append(letter.way)

    scene.deliver = deliver
    scene.settings = Notifications(webhook="https://one", slack="https://two")
    async with scene.running():
        scene.happen("gpu_set_aside")
        await until(lambda: brought == ["webhook"] and not left(scene))
        scene.happen("gpu_set_aside")
        await until(lambda: brought == ["webhook"] * 2 and not left(scene))


def slack_hangs(scene: Scene) -> list[str]:
    """By which ways letters arrive; those to Slack never do."""
    brought: list[str] = []

    async def deliver(letter: Letter) -> None:
        if letter.way == "slack":
            await asyncio.Event().wait()
        brought.append(letter.way)

    scene.deliver = deliver
    return brought


async def test_one_that_hangs_keeps_nobody_else_waiting(scene: Scene) -> None:
    brought = slack_hangs(scene)
    scene.settings = Notifications(webhook="https://one", slack="https://two")
    async with scene.running():
        for _ in range(3):
            scene.happen("gpu_set_aside")
        await until(lambda: brought == ["webhook"] * 3)
    assert len(left(scene)) == 3


async def test_a_server_that_never_answers_leaves_room_for_the_others(scene: Scene) -> None:
    """Neither its letters that wait nor those on their way take what others need."""
    brought = slack_hangs(scene)
    scene.settings = Notifications(slack=("https://two/a", "https://two/b"))
    more = MOST_FOR_ONE + 10
    async with scene.running():
        for _ in range(more):
            scene.happen("gpu_set_aside")
        await until(lambda: scene.watch.told == scene.store.last_event)
        assert scene.watch.waiting == MOST_FOR_ONE
        scene.settings = Notifications(webhook="https://one")
        scene.happen("gpu_set_aside")
        await until(lambda: brought == ["webhook"])


async def test_the_outbox_does_not_grow_without_end(scene: Scene) -> None:
    scene.deliver = Postman(failures=10**9)
    made = letters(notice(event(), failed(), None, "x"), [("webhook", ("a",))], time.time())
    scene.outbox.open(0)
    later = replace(made[0], due_at=time.time() + 3600)
    for number in range(MOST_LETTERS):
        each = replace(later, id=f"{number:012d}-0", target=(f"https://{number}",))
        (scene.outbox._folder / f"{each.id}.json").write_bytes(msgspec.json.encode(each))
    async with scene.running():
        scene.happen("gpu_set_aside")
        await until(lambda: scene.watch.told == scene.store.last_event)
        assert scene.watch.waiting == MOST_LETTERS


def test_a_damaged_letter_is_removed(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox")
    outbox.open(5)
    (tmp_path / "outbox" / "1-0.json").write_text("{")
    assert outbox.open(9) == ([], 5)
    assert not (tmp_path / "outbox" / "1-0.json").exists()
    assert (tmp_path / "outbox").stat().st_mode & 0o77 == 0


# ---------------------------------------------------------------- the real daemon


def test_a_job_that_fails_is_told_by_its_own_ways_and_the_daemons(
    start_daemon: Callable[..., RealDaemon], tmp_path: Path, hooks: Hooks
) -> None:
    settings = tmp_path / "trainforged.yaml"
    settings.write_text(f"notify: {{webhook: '{hooks.address('/all')}', on: [failure]}}\n")
    daemon = start_daemon(2, "--config", str(settings))
    (daemon.folder / "train.py").write_text("raise ValueError('the data is gone')\n")
    tell = script(tmp_path / "tell", f"cat >> {tmp_path}/said")
    fields = {
        "training": {"script": "train.py"}, "recovery": {"max_retries": 0},
        "environment": {"python": sys.executable},
        "notify": {"slack": hooks.address("/slack"), "command": [tell], "on": ["end"]},
    }  # fmt: skip
    with daemon.client() as client:
        job = client.submit(request((), daemon.folder, **fields)).id
    daemon.command("true")  # nobody wants to know
    assert daemon.wait_for(job).state is JobState.FAILED
    got = wait_until(lambda: dict(hooks.got) if len(hooks.got) == 2 else None, "two posts")
    assert got["/all"]["job"] == job
    assert (
        got["/all"]["subject"] == f"job {job} (test) failed (user error): rank 0 ValueError: the data is gone"
    )
    assert "Traceback (most recent call last)" in got["/all"]["text"]
    assert "the data is gone" in got["/slack"]["text"]
    wait_until(
        lambda: (tmp_path / "said").exists() and "tfctl why" in (tmp_path / "said").read_text(), "the script"
    )
    wait_until(lambda: not list((daemon.state_dir / "outbox").glob("*.json")), "an empty outbox")
    assert len(hooks.got) == 2


def test_what_could_not_be_told_is_told_after_kill_9(
    start_daemon: Callable[..., RealDaemon], hooks: Hooks
) -> None:
    port = hooks.port
    hooks.close()
    daemon = start_daemon(1)
    job = daemon.command("true", notify={"webhook": hooks.address()}).id
    daemon.wait_for(job)
    wait_until(lambda: list((daemon.state_dir / "outbox").glob("*.json")), "a letter on the disk")
    daemon.kill()
    again = Hooks(port)
    try:
        daemon.start()
        wait_until(lambda: again.got, "the post")
        assert again.got[0][1]["type"] == "job_succeeded"
    finally:
        again.close()


def test_a_long_wait_is_told_once(
    start_daemon: Callable[..., RealDaemon], tmp_path: Path, hooks: Hooks
) -> None:
    settings = tmp_path / "trainforged.yaml"
    settings.write_text("notify: {wait: 1s}\n")
    daemon = start_daemon(1, "--config", str(settings))
    hold = daemon.command("sh", "-c", "while [ ! -e finish ]; do sleep 0.05; done", resources={"gpu": 1}).id
    job = daemon.command("true", resources={"gpu": 1}, notify={"webhook": hooks.address(), "on": ["wait"]}).id
    silent = daemon.command("true", resources={"gpu": 1}).id
    wait_until(lambda: hooks.got, "the post")
    told = json.dumps(hooks.got[0][1])
    assert f"job {job} (test) has waited for " in told
    assert f"it waits for 1 GPU: 0 free; job {hold}" in told
    daemon.stop()
    daemon.start()
    (daemon.folder / "finish").touch()
    for one in (hold, job, silent):
        daemon.wait_for(one)
    with daemon.client() as client:
        types = [(e.job, e.type) for e in client.events_page(0).events]
    assert types.count((job, "long_wait")) == 1
    assert (silent, "long_wait") not in types
    assert len(hooks.got) == 1


def test_every_kind_has_an_event() -> None:
    assert {kind for kinds in KINDS.values() for kind in kinds} == {
        "end", "failure", "hang", "gpu", "wait", "waste",
    }  # fmt: skip
