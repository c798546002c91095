"""Keeps the accounts of running jobs, points out waste, and answers for the report."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from trainforge.api import EventView, GpuHistory, Usage, Waste
from trainforge.api.report import ReportAnswer
from trainforged.config import Waste as Settings
from trainforged.core import messages as m
from trainforged.daemon.accounting.ledger import GpuUse, Held, Ledger
from trainforged.daemon.accounting.summary import summary
from trainforged.daemon.accounting.waste import SLOTS, waste
from trainforged.daemon.engine import Engine
from trainforged.storage.accounts import HOUR, Account, AccountStore
from trainforged.storage.errors import StorageError

log = logging.getLogger(__name__)

EVERY = 5.0  # seconds between two looks at most
LOOKS = 4  # at least, in each slot of a window
WRITE_EVERY = 30.0
TIDY_EVERY = 24 * HOUR


class AccountWatch:
    """`history` gives a GPU's last so many seconds, `usage` what a job uses now, `stored` a job and
    `attempts` its attempts as storage has them; the first two are called on the event loop, the others in a
    thread."""

    def __init__(
        self,
        store: AccountStore,
        engine: Engine,
        *,
        history: Callable[[str, float], GpuHistory],
        usage: Callable[[int], Usage | None],
        stored: Callable[[int], m.Job | None],
        attempts: Callable[[int], Sequence[m.Attempt]],
        settings: Callable[[], Settings],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._engine = engine
        self._history = history
        self._usage = usage
        self._stored = stored
        self._attempts = attempts
        self._settings = settings
        self._clock = clock
        self._ledger = Ledger([], [], float(settings().after), settings().below)
        self._pointed_out: set[tuple[int, int]] = set()
        self._missed: list[tuple[int, int]] = []  # attempts that were over before they were heard of
        self._written = 0.0
        self._tidied = 0.0
        self._using = asyncio.Lock()

    # ---- the loop

    async def run(self) -> None:
        """Follow the leases until cancelled; what was not yet written is written then."""
        await self._load()
        try:
            while True:
                await self._look()
                await asyncio.sleep(min(EVERY, self._ledger.after / SLOTS / LOOKS))
        finally:
            with contextlib.suppress(StorageError):
                self._store.write(
                    list(self._ledger.accounts.values()), self._ledger.take_changes(self._clock())
                )

    def hear(self, events: Sequence[EventView]) -> None:
        """What has happened: an attempt may be over before the next look, and a checkpoint is what a crash
        does not throw away."""
        for event in events:
            if event.job is None:
                continue
            if event.type == "checkpoint_saved":
                self._ledger.checkpoint(event.job, event.time.timestamp())
            if event.type == "attempt_started":
                self._open(event.job, event.data["attempt"])
            elif event.type == "attempt_ended":
                key = event.job, event.data["attempt"]
                if key not in self._ledger.accounts and key not in self._missed:
                    self._missed.append(key)

    def _open(self, job: int, attempt: int) -> None:
        lease, known = self._engine.state.leases.get(job), self._engine.state.jobs.get(job)
        if lease is None or known is None or lease.attempt != attempt:
            self._missed.append((job, attempt))
        elif lease.gpus:
            self._ledger.open(Held(lease=lease, job=known))

    def waste(self, job: int) -> Waste | None:
        """What the job wastes now."""
        lease = self._engine.state.leases.get(job)
        account = self._ledger.accounts.get((job, lease.attempt)) if lease is not None else None
        if lease is None or account is None or not account.low:
            return None
        devices = self._engine.state.devices
        indices = [(uuid, devices[uuid].index) for uuid in lease.gpus if uuid in devices]
        return waste(account, self._clock(), self._ledger.after, indices)

    async def report(self, since: float) -> ReportAnswer:
        """Of what happened since this moment, up to now."""
        await self._look()
        await self._write()
        accounts, slices = await asyncio.to_thread(
            lambda: (self._store.accounts(since), self._store.slices(since))
        )
        wasted = {job: found.sentence for job in self._engine.state.leases if (found := self.waste(job))}
        return summary(accounts, slices, since, self._clock(), wasted)

    async def start_over(self) -> Path:
        """Begin storage that was damaged anew, with what can be read of it and what is known here; returns
        where the old file lies. Raises `StorageError`."""
        async with self._using:
            aside = await asyncio.to_thread(self._store.start_over)
            self._ledger.change_all()
        await self._write()
        return aside

    # ---- its steps

    async def _load(self) -> None:
        accounts = await asyncio.to_thread(self._store.open_accounts)
        now = self._clock()
        since = min([now, *(account.seen_at for account in accounts)])
        slices = await asyncio.to_thread(self._store.slices, since)
        begun = self._ledger.accounts.values()  # since the daemon started, while this was read
        self._ledger = Ledger([*accounts, *begun], slices, self._ledger.after, self._ledger.below)
        self._pointed_out = {(a.job, a.attempt) for a in accounts if a.low}

    async def _look(self) -> None:
        async with self._using:
            await self._open_missed()
            now, settings = self._clock(), self._settings()
            self._ledger.after, self._ledger.below = float(settings.after), settings.below
            over = self._ledger.look(now, len(self._engine.state.devices), self._held())
            self._point_out(now)
            if over:
                await self._close(over, now)
        if over or now - self._written >= WRITE_EVERY:
            await self._write()

    async def _open_missed(self) -> None:
        """Accounts of attempts that started and ended within one batch of the engine, or of which only the
        end was seen: a look closes them."""
        missed, self._missed = self._missed, []
        if not missed:
            return
        try:
            for one in await asyncio.to_thread(lambda: [*map(self._as_stored, missed)]):
                if one is not None:
                    self._ledger.open(one)
        except StorageError as error:
            log.error("the accounts of %d attempts are not opened yet: %s", len(missed), error)
            self._missed += missed

    def _as_stored(self, key: tuple[int, int]) -> Held | None:
        job = self._stored(key[0])
        mine = next((attempt for attempt in self._attempts(key[0]) if attempt.number == key[1]), None)
        if job is None or mine is None or not mine.gpus:  # removed in between, or it held none
            return None
        if any((known.job, known.attempt) == key for known in self._store.accounts(mine.granted_at)):
            return None  # it was closed before its end was heard of
        lease = m.Lease(
            job=job.id,
            attempt=mine.number,
            gpus=mine.gpus,
            cpu=job.resources.cpu or 0,
            granted_at=mine.granted_at,
        )
        return Held(lease=lease, job=job)

    def _held(self) -> list[Held]:
        state = self._engine.state
        return [
            Held(
                lease=lease,
                job=state.jobs[lease.job],
                uses=[self._use(uuid) for uuid in lease.gpus],
                usage=self._usage(lease.job),
                gpu_memory=sum(d.memory_total for u in lease.gpus if (d := state.devices.get(u)) is not None),
            )
            for lease in state.leases.values()
            if lease.gpus and not lease.releasing and lease.job in state.jobs
        ]

    def _use(self, uuid: str) -> GpuUse:
        lately = self._history(uuid, max(2.0, min(EVERY, self._ledger.after / SLOTS)))
        return GpuUse(uuid=uuid, percent=_mean(lately.utilisation), memory=_mean(lately.memory))

    def _point_out(self, now: float) -> None:
        for key, account in self._ledger.accounts.items():
            if account.low and key not in self._pointed_out:
                self._pointed_out.add(key)
                self._say(account, now)
            elif not account.low and key in self._pointed_out:
                self._pointed_out.discard(key)
                words = "uses its GPUs again"
                self._engine.tell(m.Noted(time=now, job=account.job, type="waste_ended", message=words))

    def _say(self, account: Account, now: float) -> None:
        found = self.waste(account.job)
        if found is not None:
            data = {"mean_utilization": found.mean_utilization, "gpus": sorted(account.low)}
            said = m.Noted(time=now, job=account.job, type="waste_noticed", message=found.sentence, data=data)
            self._engine.tell(said)

    async def _close(self, over: Sequence[Account], now: float) -> None:
        """Accounts of leases that are over, with what became of the attempts."""
        for account in over:
            try:
                attempts = await asyncio.to_thread(self._attempts, account.job)
            except StorageError as error:
                log.error("the account of job %d is not closed yet: %s", account.job, error)
                continue
            mine = next((attempt for attempt in attempts if attempt.number == account.attempt), None)
            self._ledger.close(account, mine, now)
            self._pointed_out.discard((account.job, account.attempt))

    async def _write(self) -> None:
        """Nothing is lost where the disk refuses: it is written the next time."""
        async with self._using:
            now = self._clock()
            accounts, slices = list(self._ledger.accounts.values()), self._ledger.take_changes(now)
            self._written = now
            try:
                await asyncio.to_thread(self._store.write, accounts, slices)
                self._ledger.forget(account for account in accounts if account.ended_at is not None)
                if now - self._tidied >= TIDY_EVERY:
                    self._tidied = now
                    await asyncio.to_thread(self._store.tidy, now)
            except StorageError as error:
                log.error("accounts were not written: %s", error)
                self._ledger.put_back(slices)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
