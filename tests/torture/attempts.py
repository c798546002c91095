"""Faults of attempts: their shims, launchers and ranks are killed, what they write is torn."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from tests.torture.scene import Kinds, Scene, send
from trainforged.execution import processes

LAUNCHER = b"torch.distributed.run"
LONGEST_LOOK = 1.0  # seconds for an attempt to end whose status is to be torn


def kinds(scene: Scene) -> Kinds:
    attempts = _Attempts(scene)
    return {
        "kill -9 of a shim": attempts.kill_shim,
        "kill -9 of a launcher": attempts.kill_launcher,
        "kill -9 of a rank": attempts.kill_rank,
        "kill -9 of a job's process": attempts.kill_any,
        "kill -9 of shim and daemon": attempts.kill_both,
        "a shim stopped and continued": attempts.stop_shim,
        "a torn record": attempts.tear_record,
        "a torn exit status": attempts.tear_status,
    }


class _Attempts:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._chance = scene.chance

    def _a_shim(self, what: str) -> int | None:
        shims = self._scene.shims()
        if not shims:
            return None
        pid = self._chance.choice(sorted(shims))
        self._scene.mark(shims[pid], what)
        return pid

    def kill_shim(self) -> bool:
        pid = self._a_shim("shim")
        return pid is not None and send(pid, signal.SIGKILL)

    def kill_both(self) -> bool:
        self._scene.daemon.kill()
        killed = self.kill_shim()
        self._scene.daemon.start()
        return killed

    def stop_shim(self) -> bool:
        pid = self._a_shim("nothing")
        return pid is not None and send(pid, signal.SIGSTOP) and send(pid, signal.SIGCONT)

    # ---- what a shim started

    def kill_any(self) -> bool:
        pid = self._a_shim("rank")
        if pid is None:
            return False
        family = processes.tree(pid, processes.all_stats())[1:]
        return bool(family) and send(self._chance.choice(sorted(family)), signal.SIGKILL)

    def kill_launcher(self) -> bool:
        return self._kill_one(lambda pid: LAUNCHER in processes.read_proc(f"/proc/{pid}/cmdline"))

    def kill_rank(self) -> bool:
        """One that has siblings, or the one there is."""
        return self._kill_one(lambda pid: b"\0RANK=" in processes.read_proc(f"/proc/{pid}/environ"))

    def _kill_one(self, wanted: Callable[[int], bool]) -> bool:
        stats = processes.all_stats()
        found = {
            pid: job
            for shim, job in self._scene.shims().items()
            for pid in processes.tree(shim, stats)[1:]
            if wanted(pid)
        }
        if not found:
            return False
        pid = self._chance.choice(sorted(found))
        self._scene.mark(found[pid], "rank")
        return send(pid, signal.SIGKILL)

    # ---- what is written

    def tear_status(self) -> bool:
        """Of an attempt that ends while no daemon looks: all that is left of its status is a part."""
        jobs = set(self._scene.shims().values())
        self._scene.daemon.kill()
        torn = self._tear_one_of(jobs)
        self._scene.daemon.start()
        return torn

    def _tear_one_of(self, jobs: set[int]) -> bool:
        limit = time.monotonic() + LONGEST_LOOK
        while jobs and time.monotonic() < limit:
            for job in sorted(jobs):
                attempts = self._scene.daemon.state_dir.glob(f"jobs/{job}/attempts/*")
                path = max(attempts, key=lambda attempt: int(attempt.name)) / "exit.json"
                if path.exists():
                    self._scene.mark(job, "shim")  # as if it had not come to write it
                    os.truncate(path, path.stat().st_size // 2)
                    return True
            time.sleep(0.01)
        return False

    def tear_record(self) -> bool:
        paths = sorted(self._scene.daemon.state_dir.glob("jobs/*/attempts/*/records-0.jsonl"))
        if not paths:
            return False
        with self._chance.choice(paths).open("ab") as file:
            file.write(b'{"kind": "report", "step": 1e999, "metr')
        return True
