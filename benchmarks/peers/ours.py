"""TrainForge, used from the shell as its peers are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.peers.peer import Argv, Telling
from benchmarks.scene import tfctl
from tests.daemon.real import RealDaemon, own_path

SWEEP = 1000


class Ours(Telling):
    name = "TrainForge"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._daemon = RealDaemon(folder, 1)

    def missing(self) -> str | None:
        return None

    def start(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.env = os.environ | {"TRAINFORGE_SOCKET": str(self._daemon.socket), "PATH": own_path()}
        self._daemon.start()

    def kill(self) -> None:
        self._daemon.kill()

    def again(self) -> None:
        self._daemon.start()

    def close(self) -> None:
        self._daemon.close()

    def daemons(self) -> Sequence[int]:
        return [self._daemon.pid]

    def submit(self, script: str, *, parked: bool = False, alone: bool = False) -> Argv:
        wants = ["--gpu", "1" if alone else "0", *(["--hold"] if parked else [])]
        return tfctl("submit", *wants, "--", "sh", "-c", script)

    def job_id(self, said: str) -> str:
        return said.split()[2]

    def park_many(self, count: int) -> None:
        for start in range(0, count, SWEEP):
            numbers = ",".join(map(str, range(start, min(start + SWEEP, count))))
            self.run(tfctl("submit", "--gpu", "0", "--hold", "--sweep", f"I={numbers}", "--", "true"))

    def listing(self) -> Argv:
        return tfctl("status", "--all")

    def known(self) -> int:
        return list(self.outcomes().values()).count(None)

    def outcomes(self) -> dict[str, bool | None]:
        listed = msgspec.json.decode(self.run(tfctl("status", "--all", "--json")))
        return {
            str(job["id"]): None if job["ended_at"] is None else job["state"] == "succeeded"
            for job in listed["jobs"]
        }

    def cancel(self, job: str) -> Argv:
        return tfctl("cancel", "--now", job)
