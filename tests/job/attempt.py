"""An attempt's folder, and scripts run in it as a job would run them.

Scripts see a copy of the in-job modules and nothing else of this project, as in a job.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trainforge import protocol

WRAPPER = ("-m", "trainforge.rank")


def eventually(condition: Callable[[], Any], what: str, seconds: float = 20) -> Any:
    """Wait until the condition gives something true, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.005)
    return found


class Attempt:
    """An attempt's folder and environment, and processes in it."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.processes: list[subprocess.Popen[str]] = []
        names = (*protocol.RESERVED, "LOCAL_WORLD_SIZE", "PYTHONSAFEPATH")
        outside = {name: value for name, value in os.environ.items() if name not in names}
        self.outside = {**outside, "PYTHONPATH": str(library), "PYTHONDONTWRITEBYTECODE": "1"}
        self.env = {
            **self.outside,
            protocol.ATTEMPT_DIR: str(folder),
            protocol.CHECKPOINT_DIR: str(self.checkpoints),
            protocol.TOKEN: "attempt-1",
            "RANK": "0",
            "WORLD_SIZE": "1",
        }

    def script(self, source: str, name: str = "script.py") -> Path:
        path = self.folder / name
        path.write_text(source)
        return path

    def start(
        self, command: Sequence[object], env: dict[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Start this Python with these arguments. What is left of it at the test's end is killed."""
        process = subprocess.Popen(
            [options.pop("python", sys.executable), *map(str, command)],
            env=self.env if env is None else env,
            cwd=options.pop("cwd", self.folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        self.processes.append(process)
        return process

    def run(self, command: Sequence[object], env: dict[str, str] | None = None, **options: Any) -> Result:
        deadline = options.pop("deadline", 100.0)
        process = self.start(command, env, **options)
        return Result(*process.communicate(timeout=deadline), process)

    def records(self, kind: str | None = None, rank: int = 0) -> list[dict[str, Any]]:
        path = self.folder / protocol.RECORDS.format(rank=rank)
        lines = path.read_text().splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines if line]
        return [record for record in found if kind in (None, record["kind"])]

    def status(self, rank: int = 0) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(
            (self.folder / protocol.RANK_STATUS.format(rank=rank)).read_text()
        )
        return status

    def end(self) -> None:
        """Kill what is left of the processes, and of theirs: all carry the folder's name."""
        for process in self.processes:
            process.kill()
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if (
                    os.fsencode(f"{protocol.ATTEMPT_DIR}={self.folder}\0")
                    in Path(f"/proc/{pid}/environ").read_bytes()
                ):
                    os.kill(int(pid), signal.SIGKILL)
        for process in self.processes:
            process.communicate(timeout=100)


class Result:
    """How a script ended and what it wrote."""

    def __init__(self, stdout: str, stderr: str, process: subprocess.Popen[str]) -> None:
        self.code, self.stdout, self.stderr, self.pid = process.returncode, stdout, stderr, process.pid

    def __repr__(self) -> str:
        return f"<{self.code}, {self.stdout!r}, {self.stderr!r}>"
