"""The state folder's databases, opened, and the state that the core starts from."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from trainforged.core.state import State
from trainforged.daemon.disks.housekeeping import job_folders
from trainforged.daemon.disks.reserve import Reserve
from trainforged.daemon.options import Settings
from trainforged.storage.accounts import AccountStore
from trainforged.storage.jobs.store import JobStore
from trainforged.storage.metrics.store import MetricStore

log = logging.getLogger("trainforged")


class Opened:
    """Closed by `stack`. Raises the errors of `storage.errors`."""

    def __init__(self, state_dir: Path, settings: Settings, stack: contextlib.AsyncExitStack) -> None:
        self.reserve = Reserve(state_dir)
        self.store = JobStore(state_dir / "trainforge.db")
        self.metrics = MetricStore(state_dir / "metrics.db", settings.metrics_room)
        self.reserve.spend_on(self.store.open)
        stack.callback(self.store.close)
        self.reserve.spend_on(self.metrics.open)
        stack.callback(self.metrics.close)
        self.accounts = AccountStore(state_dir / "accounts.db")
        self.reserve.spend_on(self.accounts.open)
        stack.callback(self.accounts.close)
        remembered = self.store.load()
        self.last_event = remembered.last_event
        self.given_out = remembered.next_id  # every job that there ever was has a lower number
        self.state = State()
        self.state.outcomes = remembered.outcomes
        self.state.next_id = _above_strangers(state_dir, remembered.next_id)
        self.state.patience = float(settings.now.scheduling.patience)
        if remembered.machine is not None:
            self.state.machine = remembered.machine
        self.state.restore(remembered.jobs, remembered.leases, remembered.devices)


def _above_strangers(state_dir: Path, next_id: int) -> int:
    """The number for the next job. Folders of jobs that the database does not know are left alone: an
    older one was put back, or it lost what was written last."""
    strangers = [job for job in job_folders(state_dir / "jobs") if job >= next_id]
    if not strangers:
        return next_id
    named = ", ".join(map(str, strangers[:10])) + (", …" if len(strangers) > 10 else "")
    log.error(
        "%s: the database knows nothing of jobs %s; their folders are left alone, and may be running. "
        "New jobs are numbered from %d",
        state_dir / "jobs", named, strangers[-1] + 1,
    )  # fmt: skip
    return strangers[-1] + 1
