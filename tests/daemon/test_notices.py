"""People are told: by real servers and scripts, until it has arrived, over restarts, and once."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import email
import email.policy
import functools
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from tests import support
from tests.client.topping import job as view
from tests.daemon.hooks import Hooks
from tests.daemon.real import RealDaemon, request, wait_until
from trainforge.api import EventView, JobView, Progress
from trainforge.api.page import Incident, Tried
from trainforge.jobfile.checks import SpecError, check
from trainforge.spec import Notify
from trainforge.states import JobState
from trainforged import config
from trainforged.config import ConfigError, Notifications
from trainforged.core import messages as m
from trainforged.core.state import State
from trainforged.daemon.engine import Engine
from trainforged.daemon.notices.delivery import NotDelivered, body, deliver, mail, variables
from trainforged.daemon.notices.letters import KINDS, Letter, Way, letters, notice, ways
from trainforged.daemon.notices.outbox import MOST_LETTERS, Outbox
from trainforged.daemon.notices.watch import NoticeWatch
from trainforged.execution.processes import read_proc
from trainforged.storage.jobs.store import JobStore

until = functools.partial(support.until, seconds=60.0)
NOW = datetime.datetime(2026, 11, 27, 22, tzinfo=datetime.UTC)


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    hooks = Hooks()
    yield hooks
    hooks.close()


def event(
    type: str = "job_failed", message: str = "it happened", job: int | None = 3, id: int = 7
) -> EventView:
    return EventView(id=id, time=NOW, type=type, job=job, message=message)


def tried(number: int, reason: str, message: str) -> Tried:
    return Tried(
        attempt=number, started_at=NOW, ended_at=NOW, reason=reason, message=message, resumed_from=None
    )


def incident(**fields: Any) -> Incident:
    whole: dict[str, Any] = {
        "job": 3, "state": "failed", "reason": "user_error", "sentence": "failed",
        "cause": "user_error", "evidence": ("rank 1 raised ValueError: no",), "rank": 1,
        "traceback": "Traceback (most recent call last):\n  File …\nValueError: no", "last_metrics": {},
        "last_progress": Progress(step=40, steps=100, metrics={"loss": 1.23456}), "stacks": (),
        "tried": (
            tried(1, "hang", "stood still"),
            tried(2, "user_error", "no"),
        ),
        "advice": ("mend it, then: tfctl retry 3",), "events": (),
    } | fields  # fmt: skip
    return Incident(**whole)


def failed(**fields: Any) -> JobView:
    why = "failed (user error): ValueError: no"
    return view(3, JobState.FAILED, reason="user_error", why=why, **fields)


def letter(way: Way, *target: str, **fields: Any) -> Letter:
    told = fields.pop("notice", None) or notice(event(), failed(), incident(), "host")
    now = time.time()
    return Letter(id="1-0", notice=told, way=way, target=target, created_at=now, due_at=now)


# ---------------------------------------------------------------- what is told


def test_a_failure_is_told_with_all_that_is_known_of_it() -> None:
    told = notice(event(), failed(), incident(), "box")
    assert told.subject == "job 3 (job-3) failed (user error): ValueError: no"
    assert told.text == "\n\n".join(
        [
            "job 3 (job-3) failed (user error): ValueError: no",
            "it happened",
            "rank 1 failed first",
            "rank 1 raised ValueError: no",
            "Traceback (most recent call last):\n  File …\nValueError: no",
            "last reported: step 40/100, loss 1.235",
            "attempt 1: hang, stood still\nattempt 2: user_error, no",
            "mend it, then: tfctl retry 3",
            "on box; tfctl why 3",
        ]
    )
    assert (told.job, told.state, told.reason, told.user) == (3, "failed", "user_error", "alice")


@pytest.mark.parametrize(
    ("type", "message", "job", "subject"),
    [
        ("job_succeeded", "succeeded", view(3, JobState.SUCCEEDED), "job 3 (job-3) succeeded after 60 s"),
        ("job_cancelled", "cancelled", view(3, JobState.CANCELLED), "job 3 (job-3) was cancelled after 60 s"),
        (
            "hang_found",
            "has reported nothing for 12 min",
            view(3),
            "job 3 (job-3) has reported nothing for 12 min",
        ),
        ("waste_noticed", "holds GPU 1", view(3), "job 3 (job-3) holds GPU 1"),
        ("job_failed", "gone", None, "job 3: gone"),
    ],
)
def test_each_event_has_its_sentence(type: str, message: str, job: JobView | None, subject: str) -> None:
    assert notice(event(type, message), job, None, "box").subject == subject


def test_a_gpu_is_told_of_without_a_job() -> None:
    told = notice(event("gpu_set_aside", "GPU 1 set aside: XID 79", job=None), None, None, "box")
    assert (told.subject, told.text) == (
        "GPU 1 set aside: XID 79",
        "GPU 1 set aside: XID 79\n\non box; tfctl gpus",
    )


def test_what_a_job_says_steers_nothing() -> None:
    evil = "\x1b[2J<!channel> @everyone ```\r\nBcc: x@y\n" + "x" * 100_000
    told = notice(event(message=evil), failed(), incident(evidence=(evil,)), "box")
    assert "\x1b" not in told.text
    assert "\n" not in told.subject
    assert len(told.text) <= 12_000
    slack = body(letter("slack", "https://x", notice=told))
    assert "<!channel>" not in slack["text"]
    discord = body(letter("discord", "https://x", notice=told))
    assert len(discord["content"]) < 2000
    assert discord["content"].count("```") == 2
    assert discord["allowed_mentions"] == {"parse": []}
    message = email.message_from_string(mail(told, "a@b"), policy=email.policy.default)
    assert message["Bcc"] is None
    assert message["To"] == "a@b"


def test_a_way_is_used_for_what_it_was_named_for() -> None:
    notify = Notify(on=("failure", "gpu"), webhook=("https://a", "https://b"), desktop=True, command=("x",))
    assert list(ways(notify, "job_succeeded")) == []
    assert [way for way, _ in ways(notify, "job_failed")] == ["command", "webhook", "webhook", "desktop"]
    assert len(list(ways(notify, "gpu_set_aside"))) == 4
    assert list(ways(Notify(), "job_failed")) == []
    assert list(ways(notify, "checkpoint_saved")) == []


def test_the_same_way_twice_is_one_letter_and_ids_stay() -> None:
    told = notice(event(), failed(), incident(), "box")
    to: list[tuple[Way, tuple[str, ...]]] = [("webhook", ("a",)), ("slack", ("a",)), ("webhook", ("a",))]
    made = letters(told, to, 5.0)
    assert [(one.id, one.way) for one in made] == [("000000000007-0", "webhook"), ("000000000007-1", "slack")]
    assert letters(told, to, 6.0)[0].id == made[0].id


# ---------------------------------------------------------------- settings


def spec(**notify: Any) -> Notify:
    tree = {"project": {"name": "x"}, "training": {"command": ["true"]}, "notify": notify}
    return check(tree, now=NOW).notify


def test_the_job_file_names_ways() -> None:
    found = spec(on=["end"], webhook="https://a/b", mail=["a@b.org", "root"], desktop=True, command="echo hi")
    assert found == Notify(
        on=("end",), webhook=("https://a/b",), mail=("a@b.org", "root"), desktop=True,
        command=("/bin/sh", "-c", "echo hi"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("notify", "path"),
    [
        ({"on": ["ends"]}, "notify.on[0]"),
        ({"on": "end"}, "notify.on"),
        ({"webhook": "file:///etc/passwd"}, "notify.webhook"),
        ({"slack": ["https://a b"]}, "notify.slack[0]"),
        ({"mail": "-oQ/tmp a@b"}, "notify.mail"),
        ({"mail": "a@b\nBcc: c@d"}, "notify.mail"),
        ({"desktop": "perhaps"}, "notify.desktop"),
        ({"telegram": "x"}, "notify.telegram"),
    ],
)
def test_a_mistake_is_refused_with_its_place(notify: dict[str, Any], path: str) -> None:
    with pytest.raises(SpecError) as error:
        spec(**notify)
    assert [detail.path for detail in error.value.details] == [path]


def test_the_daemons_settings_name_ways_for_all_and_for_each_user(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "notify: {slack: 'https://s', on: [gpu], wait: 2h, users: {bob: {command: say, on: [end]}}}"
    )
    found = config.load(file).notify
    assert found.spec() == Notify(on=("gpu",), slack=("https://s",))
    assert found.users["bob"].spec() == Notify(on=("end",), command=("/bin/sh", "-c", "say"))
    assert float(found.wait) == 7200
    file.write_text("notify: {on: [sometimes]}")
    with pytest.raises(ConfigError, match=r"notify\.on"):
        config.load(file)


# ---------------------------------------------------------------- handing over


async def test_webhooks_get_json_in_their_own_form(hooks: Hooks) -> None:
    for way in ("webhook", "slack", "discord"):
        await deliver(letter(way, hooks.address(f"/{way}")))  # type: ignore[arg-type]
    (_, plain), (_, slack), (_, discord) = hooks.got
    assert (plain["job"], plain["type"], plain["reason"]) == (3, "job_failed", "user_error")
    assert "ValueError: no" in plain["text"]
    assert slack["text"].startswith("job 3 (job-3) failed")
    assert discord["content"].startswith("```\njob 3 (job-3) failed")


@pytest.mark.parametrize(
    ("status", "again"), [(500, True), (429, True), (408, True), (404, False), (302, False)]
)
async def test_what_a_server_refuses_is_tried_again_where_that_may_help(
    hooks: Hooks, status: int, again: bool
) -> None:
    hooks.answers = [status]
    hooks.headers = {"Retry-After": "17", "Location": hooks.address("/elsewhere")}
    with pytest.raises(NotDelivered, match=f"HTTP {status}") as error:
        await deliver(letter("webhook", hooks.address()))
    assert (error.value.again, error.value.after) == (again, 17.0)
    assert hooks.tries == 1  # no redirect was followed


async def test_nobody_there_is_tried_again(hooks: Hooks) -> None:
    address = hooks.address()
    hooks.close()
    with pytest.raises(NotDelivered) as error:
        await deliver(letter("webhook", address))
    assert error.value.again


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


async def test_a_command_gets_the_text_and_the_facts(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = script(tmp_path / "tell", f"{{ env | grep ^TRAINFORGE_ | sort; cat; }} > {out}")
    await deliver(letter("command", command))
    said = out.read_text()
    assert "TRAINFORGE_JOB_ID=3\n" in said
    assert "TRAINFORGE_EVENT=job_failed\n" in said
    assert "tfctl retry 3" in said


async def test_a_command_that_fails_is_tried_again_and_one_that_is_missing_is_not(tmp_path: Path) -> None:
    with pytest.raises(NotDelivered, match="ended with 3: away") as error:
        await deliver(letter("command", script(tmp_path / "tell", "echo away >&2; exit 3")))
    assert error.value.again
    with pytest.raises(NotDelivered) as error:
        await deliver(letter("command", str(tmp_path / "nothing")))
    assert not error.value.again


async def test_a_command_that_hangs_is_ended_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainforged.daemon.notices.delivery.PATIENCE", 3.0)
    command = script(tmp_path / "tell", f"sleep 1000 & echo $! > {tmp_path}/pid; wait")
    with pytest.raises(NotDelivered, match="was not done"):
        await deliver(letter("command", command))
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: not read_proc(f"/proc/{pid}/cmdline"))


async def test_what_a_command_leaves_running_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a pipe that it holds it looked as if the command hung, and everybody was told again and again."""
    monkeypatch.setattr("trainforged.daemon.notices.delivery.PATIENCE", 600.0)
    command = script(tmp_path / "tell", f"sleep 1000 & echo $! > {tmp_path}/pid; echo away >&2; exit 3")
    with pytest.raises(NotDelivered, match="ended with 3: away"):
        await asyncio.wait_for(deliver(letter("command", command)), 60)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


async def test_mail_goes_by_the_local_sendmail_and_the_desktop_by_notify_send(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for program in ("sendmail", "notify-send"):
        script(tmp_path / program, f'{{ echo "$@"; cat; }} > {tmp_path}/{program}.out')
    await deliver(letter("mail", "alice@example.org"))
    await deliver(letter("desktop"))
    flags, _, sent = (tmp_path / "sendmail.out").read_text().partition("\n")
    message = email.message_from_string(sent, policy=email.policy.default)
    assert flags == "-t -oi"
    assert message["To"] == "alice@example.org"
    assert message["Subject"] == "[host] job 3 (job-3) failed (user error): ValueError: no"
    assert "tfctl retry 3" in message.get_content()
    shown = (tmp_path / "notify-send.out").read_text()
    assert shown.startswith("--app-name=TrainForge --urgency=critical -- job 3 (job-3) failed")


def test_variables_of_a_gpu_are_empty_where_there_is_no_job() -> None:
    told = variables(notice(event("gpu_set_aside", "GPU 1 set aside", job=None), None, None, "box"))
    assert (told["TRAINFORGE_JOB_ID"], told["TRAINFORGE_SUBJECT"]) == ("", "GPU 1 set aside")


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


async def test_one_that_hangs_keeps_nobody_else_waiting(scene: Scene) -> None:
    brought: list[str] = []

    async def deliver(letter: Letter) -> None:
        if letter.way == "slack":
            await asyncio.Event().wait()
        brought.append(letter.way)

    scene.deliver = deliver
    scene.settings = Notifications(webhook="https://one", slack="https://two")
    async with scene.running():
        for _ in range(3):
            scene.happen("gpu_set_aside")
        await until(lambda: brought == ["webhook"] * 3)
    assert len(left(scene)) == 3


async def test_the_outbox_does_not_grow_without_end(scene: Scene) -> None:
    scene.deliver = Postman(failures=10**9)
    made = letters(notice(event(), failed(), None, "x"), [("webhook", ("a",))], time.time())
    scene.outbox.open(0)
    later = replace(made[0], due_at=time.time() + 3600)
    for number in range(MOST_LETTERS):
        (scene.outbox._folder / f"{number:012d}-0.json").write_bytes(
            msgspec.json.encode(replace(later, id=f"{number:012d}-0"))
        )
    async with scene.running():
        scene.happen("gpu_set_aside")
        await until(lambda: int((scene.outbox._folder / "place").read_text()) == scene.store.last_event)
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
