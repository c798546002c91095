"""What the kernel's log says of a process that it killed for want of memory. Not everybody may read it, and
what is old is gone from it: its silence means nothing."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator

from trainforged.core.messages import AttemptEnd

LOG = "/dev/kmsg"
RECORD = 1 << 13  # bytes of one, at most
SLACK = 5.0  # seconds by which its clock may differ from ours

_VICTIM = re.compile(r"oom-kill:constraint=(?P<why>\w+).*,task=(?P<task>.*),pid=(?P<pid>\d+),uid=")
_SIZE = re.compile(r"Killed process (?P<pid>\d+) .*?anon-rss:(?P<size>\d+)kB")


def looks_killed(end: AttemptEnd) -> bool:
    """It, or something that it started, was killed, and no order of ours explains that."""
    signals = {end.signal, *(rank.signal for rank in end.ranks)}
    said = any("killed by signal: Killed" in text for text in _words(end))
    return signal.SIGKILL in signals or end.exit_code == 128 + signal.SIGKILL or said


def _words(end: AttemptEnd) -> Iterator[str]:
    yield from end.tails.values()
    yield from (rank.error for rank in end.ranks if rank.error is not None)


def oom_kill(token: str, pids: frozenset[int], *, since: float) -> str | None:
    """The latest kill of a process with one of these numbers, or of a control group with this mark in its
    name, in a sentence. `since`, in seconds of the wall clock: numbers are given out again."""
    start = time.monotonic() - (time.time() - since) - SLACK
    return told((text for moment, text in _records(LOG) if moment >= start), token, pids)


def told(messages: Iterator[str], token: str, pids: frozenset[int]) -> str | None:
    """As `oom_kill`, of these messages."""
    found, victim = None, ""
    for text in messages:
        if (match := _VICTIM.match(text)) and (token in text or int(match["pid"]) in pids):
            victim = match["pid"]
            limit = match["why"] == "CONSTRAINT_MEMCG"
            why = "the limit of its memory was reached" if limit else "the machine had no memory left"
            found = f"{why} (process {victim}, {match['task']})"
        elif (match := _SIZE.search(text)) and match["pid"] == victim and found is not None:
            found = f"{found.removesuffix(')')}, {_size(int(match['size']))})"
            victim = ""
    return found


def _size(kibibytes: int) -> str:
    return f"{kibibytes / 2**20:.2f} GiB" if kibibytes >= 2**20 else f"{kibibytes >> 10} MiB"


def _records(path: str) -> Iterator[tuple[float, str]]:
    """Seconds since boot, and the message."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        while True:
            try:
                record = os.read(fd, RECORD).decode(errors="replace")
            except BrokenPipeError:  # that one was overwritten; the next is there
                continue
            head, _, text = record.partition(";")
            fields = head.split(",")
            if len(fields) < 3 or not fields[2].isdecimal():
                return
            yield int(fields[2]) / 1e6, text.partition("\n")[0]
    except OSError:  # nothing more is there; or it is not for us
        return
    finally:
        os.close(fd)
