"""What is done to a daemon and its jobs, at random moments, by one seed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.daemon.real import RealDaemon, wait_until
from trainforge.client.client import ApiError, NoDaemon
from trainforge.states import JobState
from trainforged.execution import processes

READER = b"trainforged.devices.nvml_reader"

Meddled = dict[int, set[str]]  # job → what was done to it


class Faults:
    """`meddled` remembers which jobs a fault may have touched. `driver`: a process reads the GPUs."""

    def __init__(
        self, daemon: RealDaemon, chance: random.Random, disk: Path | None, driver: bool = False
    ) -> None:
        self._daemon = daemon
        self._chance = chance
        self._disk = disk  # the state folder's, if it has one to itself
        self.meddled: Meddled = {}
        self.done: dict[str, int] = {}
        self._kinds: dict[str, Callable[[], bool]] = {
            "kill -9 of the daemon": self._kill_daemon,
            "kill -9 of the daemon twice in a row": self._kill_daemon_twice,
            "orderly restart": self._restart,
            "kill -9 of a shim": self._kill_shim,
            "kill -9 of a job's process": self._kill_rank,
            "kill -9 of shim and daemon": self._kill_both,
            "a shim stopped and continued": self._stop_shim,
            "cancel": self._cancel,
            "hold and release": self._hold,
            "a torn record": self._tear_record,
            "a torn exit status": self._tear_status,
            "the socket removed": self._remove_socket,
        }
        if driver:
            self._kinds["kill -9 of the GPU reader"] = self._kill_reader
        if disk is not None:
            self._kinds["a full disk for a moment"] = self._fill_disk

    def commit(self) -> None:
        """One fault, of a kind that finds something to be done to."""
        while True:
            kind = self._chance.choice(list(self._kinds))
            if self._kinds[kind]():
                self.done[kind] = self.done.get(kind, 0) + 1
                return

    # ---- the daemon

    def _kill_daemon(self) -> bool:
        self._daemon.kill()
        self._daemon.start()
        return True

    def _kill_daemon_twice(self) -> bool:
        self._daemon.kill()
        self._daemon.start(wait=False)
        self._daemon.kill()
        self._daemon.start()
        return True

    def _restart(self) -> bool:
        self._daemon.stop()
        self._daemon.start()
        return True

    def _remove_socket(self) -> bool:
        self._daemon.socket.unlink()
        wait_until(self._daemon.socket.exists, "the socket to be put back")
        return True

    def _kill_reader(self) -> bool:
        """The process that reads the GPUs; none is there for a moment after the last kill."""
        for child in processes.all_stats().values():
            if child.parent == self._daemon.pid and READER in processes.read_proc(
                f"/proc/{child.pid}/cmdline"
            ):
                return _send(child.pid, signal.SIGKILL)
        return False

    # ---- attempts

    def _shims(self) -> dict[int, int]:
        """pid of each shim that lives → its job."""
        found = {}
        for path in self._daemon.state_dir.glob("jobs/*/attempts/*/shim.json"):
            if (path.parent / "exit.json").exists():
                continue
            with contextlib.suppress(OSError, ValueError):
                shim = json.loads(path.read_text())
                stat = processes.read_stat(shim["pid"])
                if stat is not None and stat.start_time == shim["start_time"] and not stat.over:
                    found[shim["pid"]] = int(path.parts[-4])
        return found

    def _a_shim(self, what: str) -> int | None:
        shims = self._shims()
        if not shims:
            return None
        pid = self._chance.choice(sorted(shims))
        self.meddled.setdefault(shims[pid], set()).add(what)
        return pid

    def _kill_shim(self) -> bool:
        pid = self._a_shim("shim")
        return pid is not None and _send(pid, signal.SIGKILL)

    def _kill_both(self) -> bool:
        self._daemon.kill()
        killed = self._kill_shim()
        self._daemon.start()
        return killed

    def _kill_rank(self) -> bool:
        pid = self._a_shim("rank")
        if pid is None:
            return False
        family = processes.tree(pid, processes.all_stats())[1:]
        return bool(family) and _send(self._chance.choice(sorted(family)), signal.SIGKILL)

    def _stop_shim(self) -> bool:
        pid = self._a_shim("nothing")
        return pid is not None and _send(pid, signal.SIGSTOP) and _send(pid, signal.SIGCONT)

    def _tear_status(self) -> bool:
        """Of an attempt that ends while no daemon looks: all that is left of its status is a part."""
        shims = self._shims()
        self._daemon.kill()
        torn = self._tear_one_of(set(shims.values()))
        self._daemon.start()
        return torn

    def _tear_one_of(self, jobs: set[int]) -> bool:
        limit = time.monotonic() + 1.0
        while jobs and time.monotonic() < limit:
            for job in sorted(jobs):
                attempts = self._daemon.state_dir.glob(f"jobs/{job}/attempts/*")
                path = max(attempts, key=lambda attempt: int(attempt.name)) / "exit.json"
                if path.exists():
                    self.meddled.setdefault(job, set()).add("shim")  # as if it had not come to write it
                    os.truncate(path, path.stat().st_size // 2)
                    return True
            time.sleep(0.01)
        return False

    def _tear_record(self) -> bool:
        paths = sorted(self._daemon.state_dir.glob("jobs/*/attempts/*/records-0.jsonl"))
        if not paths:
            return False
        with self._chance.choice(paths).open("ab") as file:
            file.write(b'{"kind": "report", "step": 1e999, "metr')
        return True

    # ---- people

    def _a_job(self, *states: JobState) -> int | None:
        with self._daemon.client() as client:
            jobs = [job.id for job in client.all_jobs() if job.state in states]
        return self._chance.choice(sorted(jobs)) if jobs else None

    def _cancel(self) -> bool:
        if self._chance.random() < 0.7:  # else too few would come to their own end
            return False
        job = self._a_job(JobState.QUEUED, JobState.RUNNING, JobState.STARTING)
        if job is None:
            return False
        self.meddled.setdefault(job, set()).add("cancel")
        with self._daemon.client() as client, contextlib.suppress(ApiError, NoDaemon):
            client.cancel(job, now=self._chance.random() < 0.5)
        return True

    def _hold(self) -> bool:
        """Held in one fault, and released in another, or at the end."""
        held = self._a_job(JobState.HELD)
        job = held or self._a_job(JobState.QUEUED, JobState.RUNNING)
        if job is None:
            return False
        self.meddled.setdefault(job, set()).add("hold")
        with self._daemon.client() as client, contextlib.suppress(ApiError, NoDaemon):
            client.release(job) if held else client.hold(job)
        return True

    # ---- the disk

    def _fill_disk(self) -> bool:
        assert self._disk is not None
        filler = self._disk / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while shutil.disk_usage(self._disk).free and file.write(bytes(1 << 16)):
                pass
        with self._daemon.client() as client, contextlib.suppress(ApiError, NoDaemon):
            client.status()
        filler.unlink()
        return True


def _send(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
