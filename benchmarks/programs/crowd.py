"""A crowd of clients for one daemon: `python crowd.py SOCKET SECONDS JOB`, one line of JSON at the end.

500 clients ask for something once a second, each on a connection of its own; others read streams a few bytes
at a time, stop in the middle of a request, or send a gigabyte. Who asks, who reads and who sends are
processes of their own: in one, those who ask would wait for those who send, and then ask all at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter

CLIENTS = 500
SLOW_READERS, SLOW_LOGS, HALF_OPEN = 60, 20, 100
THINK = 1.0  # seconds between two requests of one client
GIGABYTE = 1 << 30
PIECE = bytes(1 << 18)
ASKED = ["/v1/status", "/v1/jobs?limit=50", "/v1/gpus", "/v1/events?after=0&limit=20"]

Answers = Counter[str]


class Crowd:
    def __init__(self, socket: str, seconds: float, job: str) -> None:
        self.socket = socket
        self.until = time.monotonic() + seconds
        self.job = job
        self.answers: Answers = Counter()
        self.sent = 0

    async def ask(self) -> None:
        await asyncio.gather(*(self.asks() for _ in range(CLIENTS)))

    async def read(self) -> None:
        log = f"/v1/jobs/{self.job}/logs?follow=true"
        await asyncio.gather(
            *(self.reads_slowly("/v1/events?after=0", "text/event-stream") for _ in range(SLOW_READERS)),
            *(self.reads_slowly(log, "text/plain") for _ in range(SLOW_LOGS)),
            *(self.stops_halfway() for _ in range(HALF_OPEN)),
        )

    async def send(self) -> None:
        await asyncio.gather(
            self.sends_a_gigabyte(f"/v1/files/{os.urandom(32).hex()}", "PUT"),
            self.sends_a_gigabyte("/v1/jobs", "POST"),
        )

    @property
    def left(self) -> float:
        return self.until - time.monotonic()

    async def asks(self) -> None:
        await asyncio.sleep(random.uniform(0, THINK))
        reader, writer = await self.connect()
        targets = [*ASKED, f"/v1/jobs/{self.job}"]
        while self.left > 0:
            writer.write(head("GET", random.choice(targets)))
            status, headers = await answer(reader)
            await reader.readexactly(int(headers[b"content-length"]))
            self.answers[f"{status}"] += 1
            await asyncio.sleep(THINK)
        writer.close()

    async def reads_slowly(self, target: str, accept: str) -> None:
        """A few bytes a second; how much the daemon keeps for it meanwhile is the question."""
        reader, writer = await self.connect(limit=1024)
        writer.write(head("GET", target, f"Accept: {accept}"))
        while self.left > 0:
            await reader.read(64)
            await asyncio.sleep(0.5)
        writer.transport.abort()

    async def stops_halfway(self) -> None:
        _, writer = await self.connect()
        writer.write(b"GET /v1/status HTTP/1.1\r\nHost: loc")
        await asyncio.sleep(max(0.0, self.left))
        writer.transport.abort()

    async def sends_a_gigabyte(self, target: str, method: str) -> None:
        """Again and again: as a file, which is taken in, and as JSON, which is refused."""
        while self.left > 0:
            _, writer = await self.connect()
            writer.write(head(method, target, f"Content-Length: {GIGABYTE}"))
            with contextlib.suppress(ConnectionError):
                for _ in range(GIGABYTE // len(PIECE)):
                    writer.write(PIECE)
                    await writer.drain()
                    self.sent += len(PIECE)
                    if self.left <= 0:
                        break
            writer.transport.abort()
            await asyncio.sleep(THINK)

    async def connect(self, limit: int = 1 << 16) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.socket, limit=limit)


def head(method: str, target: str, *more: str) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *more, "", ""]).encode()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes]]:
    """The status and the headers, in lower case."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    pairs = (line.partition(b":") for line in lines if line)
    return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}


def main() -> None:
    socket, seconds, job, *part = sys.argv[1:]
    if part:
        crowd = Crowd(socket, float(seconds), job)
        asyncio.run(getattr(crowd, part[0])())
        print(json.dumps({"answers": crowd.answers, "sent": crowd.sent}))
        return
    parts = [
        subprocess.Popen([sys.executable, __file__, *sys.argv[1:], name], stdout=subprocess.PIPE)
        for name in ("ask", "read", "send")
    ]
    told = [json.loads(part.communicate()[0]) for part in parts]
    answers = sum((Counter(entry["answers"]) for entry in told), Answers())
    print(json.dumps({"answers": answers, "sent": sum(entry["sent"] for entry in told)}))


if __name__ == "__main__":
    main()
