"""task-spooler: one queue, one slot; its server holds the queue in memory, and each job that waits is a
process that holds a connection to it. Once it has as many as it can hold, a submission blocks."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from benchmarks import processes, timing
from benchmarks.peers.peer import Argv, Telling

PROGRAM = "tsp"
PATIENCE = 10.0  # seconds for one submission


class TaskSpooler(Telling):
    name = "task-spooler"

    def missing(self) -> str | None:
        return None if shutil.which(PROGRAM) else "not installed (apt-get install task-spooler)"

    def start(self) -> None:
        """Its server is started by the first command and finds its socket by a variable."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.env = os.environ | {"TS_SOCKET": str(self.folder / "socket"), "TMPDIR": str(self.folder)}
        self.env["TS_MAXFINISHED"] = "20000"
        self.again()

    def again(self) -> None:
        (self.folder / "socket").unlink(missing_ok=True)
        self.run([PROGRAM, "-l"])
        timing.wait_until(self.daemons, "the server of task-spooler")

    def kill(self) -> None:
        pids = self.daemons()
        processes.kill(pids)
        timing.wait_until(lambda: not any(map(processes.alive, pids)), "the server to end")

    def close(self) -> None:
        processes.kill(processes.carrying(str(self.folder)))

    def daemons(self) -> Sequence[int]:
        mine = processes.carrying(f"TS_SOCKET={self.folder}")
        return [pid for pid in mine if processes.command(pid) == [PROGRAM, "-l"]]

    def submit(self, script: str, *, parked: bool = False, alone: bool = False) -> Argv:
        """The one slot makes every job run alone; a parked one waits for one that never ends."""
        if parked:
            return [PROGRAM, "-D", self._blocker(), "sh", "-c", script]
        return [PROGRAM, "sh", "-c", script]

    def _blocker(self) -> str:
        """A job that runs for ever, of which the parked ones are dependents."""
        mark = self.folder / "blocker"
        if not mark.exists():
            mark.write_text(self.run([PROGRAM, "sleep", "100000"]).strip())
        return mark.read_text()

    def job_id(self, said: str) -> str:
        return said.strip()

    def park_many(self, count: int) -> None:
        argv = self.submit("true", parked=True)
        for number in range(count):
            try:
                self.run(argv, patience=PATIENCE)
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"with {number:,} queued, a submission blocks") from None

    def processes(self) -> list[int]:
        """With those that stand for a job that waits."""
        mine = processes.carrying(f"TS_SOCKET={self.folder}")
        return [pid for pid in mine if processes.command(pid)[:1] == [PROGRAM]]

    def listing(self) -> Argv:
        return [PROGRAM, "-l"]

    def known(self) -> int:
        return sum(line.split()[1:2] == ["queued"] for line in self.run(self.listing()).splitlines())

    def outcomes(self) -> dict[str, bool | None]:
        """Of its list: number, state, file of the output, and for one that has ended its exit status."""
        rows = [line.split() for line in self.run(self.listing()).splitlines()[1:]]
        return {row[0]: row[3] == "0" if row[1] == "finished" else None for row in rows}

    def cancel(self, job: str) -> Argv:
        return [PROGRAM, "-k", job]
