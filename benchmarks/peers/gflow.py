"""gflow (`pip install runqd`), with its process executor: the quicker of the two it has."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import processes, timing
from benchmarks.peers.peer import Argv, Telling

ENDED = ("Finished", "Failed", "Cancelled", "Timeout")
ARRAY = 1000  # the most jobs of one submission
CONFIG = """[daemon]
host = "localhost"
port = {port}
[executor]
type = "process"
"""


class Gflow(Telling):
    name = "gflow"
    _daemon: subprocess.Popen[bytes]

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._bin = os.environ.get("GFLOW_BIN", "")

    def missing(self) -> str | None:
        path = f"{self._bin}:{os.environ.get('PATH', '')}"
        found = shutil.which("gflowd", path=path)
        if found is None:
            return "not installed (pip install runqd; $GFLOW_BIN names its folder)"
        self._bin = str(Path(found).parent)
        return None

    def start(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        places = {"HOME": "", "XDG_CONFIG_HOME": "c", "XDG_DATA_HOME": "d", "XDG_STATE_HOME": "s"}
        places |= {"XDG_RUNTIME_DIR": "r", "XDG_CACHE_HOME": "k", "TMUX_TMPDIR": "t"}
        own = {name: str(self.folder / place) for name, place in places.items()}
        self.env = os.environ | own | {"PATH": f"{self._bin}:{os.environ.get('PATH', '')}"}
        for path in own.values():
            Path(path).mkdir(parents=True, exist_ok=True)
        config = self.folder / "c" / "gflow" / "gflow.toml"
        config.parent.mkdir()
        config.write_text(CONFIG.format(port=_free_port()))
        self.again()

    def again(self) -> None:
        self._daemon = self._popen(["gflowd"], "gflowd.log")
        timing.wait_until(self._answers, "gflowd to answer")

    def _answers(self) -> bool:
        return subprocess.run(["gqueue"], env=self.env, capture_output=True).returncode == 0

    def kill(self) -> None:
        self._daemon.kill()
        self._daemon.wait()

    def close(self) -> None:
        self.kill()
        processes.kill(processes.carrying(str(self.folder)))

    def daemons(self) -> Sequence[int]:
        return [self._daemon.pid]

    def submit(self, script: str, *, parked: bool = False, alone: bool = False) -> Argv:
        """Without a GPU to wait for, jobs run one at a time only as a chain."""
        options = ["--begin", "now+30d"] if parked else []
        if alone and (self.folder / "chained").exists():
            options = ["--depends-on", "@"]
        if alone:
            (self.folder / "chained").touch()
        return ["gbatch", *options, "sh", "-c", script]

    def job_id(self, said: str) -> str:
        return said.split("batch job ")[1].split()[0]

    def park_many(self, count: int) -> None:
        for start in range(0, count, ARRAY):
            last = min(ARRAY, count - start)
            self.run(["gbatch", "--begin", "now+30d", "--array", f"1-{last}", "true"])

    def listing(self) -> Argv:
        return ["gqueue"]

    def known(self) -> int:
        return len(self._jobs())

    def outcomes(self) -> dict[str, bool | None]:
        return {
            str(job["id"]): job["state"] == "Finished" if job["state"] in ENDED else None
            for job in self._jobs("--all")
        }

    def _jobs(self, *options: str) -> list[dict[str, Any]]:
        said = self.run(["gqueue", "--user", "all", "--output", "json", *options])
        found: list[dict[str, Any]] = json.loads(said)["jobs"] if said.startswith("{") else []
        return found  # else it says that there are none

    def cancel(self, job: str) -> Argv:
        return ["gcancel", job]


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
