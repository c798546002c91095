"""Letters are handed over: to servers, programs, the mail and the desktop."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import gzip
import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.daemon.hooks import Hooks
from tests.daemon.telling import event, failed, incident, letter, script, until
from trainforged.daemon.notices.delivery import NotDelivered, deliver, variables
from trainforged.daemon.notices.letters import notice
from trainforged.execution.processes import read_proc


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


ENDLESS = {
    "a body": (b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(1 << 26)), b"x" * 65536),
    "headers": (b"X-1: 1\r\n", b"X-2: 2\r\n" * 1000),
    "a status": (b"", b"x" * 65536),
    "nothing": (b"", b""),
}


@pytest.mark.parametrize("what", ENDLESS)
async def test_a_server_that_never_comes_to_an_end_is_left(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does what it says take memory: it is neither inflated nor kept."""
    monkeypatch.setattr("trainforged.daemon.notices.delivery.PATIENCE", 1.0)
    begun, more = ENDLESS[what]
    left = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            gone = asyncio.create_task(reader.read())
            writer.write(b"HTTP/1.1 500 no\r\n" + begun if what != "a status" else b"HTTP/1.1 ")
            while not gone.done():
                writer.write(more)
                await writer.drain()
                await asyncio.sleep(0.001)
        writer.close()
        left.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    before = psutil.Process().memory_info().rss
    try:
        with pytest.raises(NotDelivered) as error:
            await deliver(letter("webhook", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"))
        assert error.value.again
        assert psutil.Process().memory_info().rss - before < 32 << 20
        await asyncio.wait_for(left.wait(), 60)
    finally:
        server.close()


async def test_nobody_there_is_tried_again(hooks: Hooks) -> None:
    address = hooks.address()
    hooks.close()
    with pytest.raises(NotDelivered) as error:
        await deliver(letter("webhook", address))
    assert error.value.again


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
    says_who = f"echo $! > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid"
    command = script(tmp_path / "tell", f"sleep 1000 & {says_who}; wait")
    patience = 1.0
    while not (tmp_path / "pid").exists():  # on a busy machine it may not have come so far
        monkeypatch.setattr("trainforged.daemon.notices.delivery.PATIENCE", patience)
        with pytest.raises(NotDelivered, match="was not done"):
            await deliver(letter("command", command))
        patience *= 2
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


async def test_what_a_job_says_is_no_markup_on_the_desktop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    script(tmp_path / "notify-send", f'for word; do printf "%s\\n" "$word"; done > {tmp_path}/shown')
    evil = "<a href='http://evil.example'>sign in</a><img src='http://evil.example/x'>"
    told = notice(event(), failed(), incident(traceback=evil), "box")
    await deliver(letter("desktop", notice=told))
    shown = (tmp_path / "shown").read_text()
    assert "sign in" in shown
    assert not {"<", ">"} & set(shown)


def test_variables_of_a_gpu_are_empty_where_there_is_no_job() -> None:
    told = variables(notice(event("gpu_set_aside", "GPU 1 set aside", job=None), None, None, "box"))
    assert (told["TRAINFORGE_JOB_ID"], told["TRAINFORGE_SUBJECT"]) == ("", "GPU 1 set aside")
