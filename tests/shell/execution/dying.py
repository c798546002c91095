"""A daemon's supervisor that is killed at a named point.

    python -m tests.shell.execution.dying STATE POINT start|adopt SOURCE

It gives the order about attempt 1 of job 1, which is to run the Python source, and dies by SIGKILL
when the supervisor reaches the point. It says nothing and catches nothing.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from tests.shell.attempts import Supervised, command
from trainforged.core.messages import AttemptEnded


async def main(state_dir: str, point: str, order: str, source: str) -> None:
    def reached(here: str) -> None:
        if here == point:
            os.kill(os.getpid(), signal.SIGKILL)

    supervised = Supervised(Path(state_dir), reached=reached)
    if order == "start":
        supervised.start(1, command(source))
    else:
        supervised.adopt(1)
    await supervised.told(AttemptEnded, 1)
    supervised.release(1)
    await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
