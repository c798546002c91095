"""Handing one letter over: a command of the user's, a webhook, mail by the local sendmail, the desktop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import aiohttp
import msgspec

from trainforged.daemon.notices.letters import Letter, Notice

PATIENCE = 30.0  # seconds for one try
LONGEST_PAUSE = 3600.0  # that a server may ask for
SLACK_LONGEST, DISCORD_LONGEST, DESKTOP_LONGEST = 3000, 1900, 800  # characters
ANSWER = 300  # characters of what a program or server says that are kept
URGENT = frozenset({"job_failed", "hang_found", "gpu_set_aside"})


class NotDelivered(Exception):
    """Why; `again` is False where another try would end the same way, `after` what the server asked for."""

    def __init__(self, why: str, *, again: bool = True, after: float | None = None) -> None:
        super().__init__(why)
        self.again = again
        self.after = after


async def deliver(letter: Letter) -> None:
    """Raises `NotDelivered`. Cancelled, it leaves no process behind."""
    notice = letter.notice
    match letter.way:
        case "command":
            await _run(letter.target, notice.text, variables(notice))
        case "mail":
            program = shutil.which("sendmail", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/lib")
            if program is None:
                raise NotDelivered("no sendmail is installed", again=False)
            await _run((program, "-t", "-oi"), mail(notice, letter.target[0]), {})
        case "desktop":
            urgency = "critical" if notice.type in URGENT else "normal"
            words = ("notify-send", "--app-name=TrainForge", f"--urgency={urgency}", "--", notice.subject)
            await _run((*words, plain(notice.text[:DESKTOP_LONGEST])), "", _session())
        case "webhook" | "slack" | "discord":
            await _post(letter.target[0], body(letter))


def body(letter: Letter) -> dict[str, Any]:
    """What is posted. Text of jobs calls nobody's name and is no markup."""
    notice = letter.notice
    if letter.way == "slack":
        text = notice.text[:SLACK_LONGEST]
        for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            text = text.replace(char, entity)
        return {"text": text, "mrkdwn": False}
    if letter.way == "discord":
        text = notice.text[:DISCORD_LONGEST].replace("```", "'''")
        return {"content": f"```\n{text}\n```", "allowed_mentions": {"parse": []}}
    whole: dict[str, Any] = msgspec.to_builtins(notice)
    return whole


def plain(text: str) -> str:
    """Desktops read markup in it (links, pictures), but not all do: so there is none, instead of entities."""
    return text.replace("<", "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}").replace(
        ">", "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}"
    )


def variables(notice: Notice) -> dict[str, str]:
    """What a command is told beside the text on its standard input."""
    told = {
        "TRAINFORGE_EVENT": notice.type,
        "TRAINFORGE_SUBJECT": notice.subject,
        "TRAINFORGE_JOB_ID": "" if notice.job is None else str(notice.job),
        "TRAINFORGE_JOB_NAME": notice.name or "",
        "TRAINFORGE_JOB_USER": notice.user or "",
        "TRAINFORGE_JOB_STATE": notice.state or "",
        "TRAINFORGE_JOB_REASON": notice.reason or "",
    }
    return {name: value.replace("\0", "") for name, value in told.items()}


def mail(notice: Notice, to: str) -> str:
    """The message with its headers; `EmailMessage` refuses a header with a line break in it."""
    from email.message import EmailMessage

    message = EmailMessage()
    message["To"] = to
    message["Subject"] = f"[{notice.host}] {notice.subject}"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(notice.text)
    return message.as_string()


def _session() -> dict[str, str]:
    """Where the desktop listens: a service has not been told."""
    bus = f"/run/user/{os.getuid()}/bus"
    if "DBUS_SESSION_BUS_ADDRESS" in os.environ or not os.path.exists(bus):
        return {}
    return {"DBUS_SESSION_BUS_ADDRESS": f"unix:path={bus}"}


async def _post(address: str, content: dict[str, Any]) -> None:
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "TrainForge",
        "Accept-Encoding": "identity",
    }
    try:
        async with (  # what it says is not inflated: it may be endless
            aiohttp.ClientSession(timeout=timeout, trust_env=True, auto_decompress=False) as session,
            session.post(
                address, data=msgspec.json.encode(content), headers=headers, allow_redirects=False
            ) as answer,
        ):
            status, after = answer.status, answer.headers.get("Retry-After")
            said = (await answer.content.read(ANSWER)).decode(errors="replace")
    except (aiohttp.ClientError, TimeoutError, OSError, socket.gaierror, ValueError) as error:
        raise NotDelivered(f"{type(error).__name__}: {error}"[:ANSWER]) from error
    if 200 <= status < 300:
        return
    again = status in (408, 425, 429) or status >= 500
    raise NotDelivered(f"HTTP {status}: {said}"[:ANSWER], again=again, after=_seconds(after))


def _seconds(retry_after: str | None) -> float | None:
    if retry_after is None or not retry_after.strip().isdecimal():
        return None
    return min(float(retry_after), LONGEST_PAUSE)


async def _run(words: Sequence[str], text: str, told: dict[str, str]) -> None:
    """It is done when the program is: what it leaves running (a sound, say) is not waited for."""
    with _heard() as (ear, said):
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=ear,
                env=os.environ | told,
                start_new_session=True,
                cwd="/",
            )
        except (OSError, ValueError) as error:
            raise NotDelivered(f"{words[0]}: {error}", again=False) from error
        try:
            async with asyncio.timeout(PATIENCE):
                await process.communicate(text.encode(errors="replace"))
        except TimeoutError as error:
            raise NotDelivered(f"{words[0]} was not done after {PATIENCE:.0f} s") from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
    if process.returncode:
        words_of_it = said.decode(errors="replace").strip()
        raise NotDelivered(f"{words[0]} ended with {process.returncode}: {words_of_it}")


@contextlib.contextmanager
def _heard() -> Iterator[tuple[int, bytearray]]:
    """A descriptor for a program to speak to, and the last bytes of what it says there. A pipe of asyncio's
    is waited for until all who hold it are gone."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    said = bytearray()

    def hear() -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(reading, 1 << 16):
                said.extend(data)
                del said[:-ANSWER]

    loop = asyncio.get_running_loop()
    loop.add_reader(reading, hear)
    try:
        yield writing, said
    finally:
        loop.remove_reader(reading)
        hear()
        os.close(reading)
        os.close(writing)
