"""The accounts while they are open: leases, use and time in; GPU-seconds by the hour out. Pure.

What happened while the daemon was away counts as held, and as not measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from trainforge.api import Usage
from trainforged.core import messages as m
from trainforged.daemon.accounting.waste import SLOTS, add, judge
from trainforged.storage.accounts import HOUR, Account, Slice, Window

LONGEST_LOOK = 30.0  # seconds between two looks; beyond that the daemon was not there

Key = tuple[int, int]  # job, attempt


class GpuUse(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU since the last look: per cent and bytes on average, None where it cannot say."""

    uuid: str
    percent: float | None = None
    memory: float | None = None


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A lease with all that is known of it now."""

    lease: m.Lease
    job: m.Job
    uses: Sequence[GpuUse] = ()
    usage: Usage | None = None
    gpu_memory: int = 0


class Ledger:
    """`after` seconds with less than `below` per cent make a GPU wasted; both may be changed."""

    def __init__(
        self, accounts: Iterable[Account], slices: Iterable[Slice], after: float, below: float
    ) -> None:
        self.after = after
        self.below = below
        self.accounts: dict[Key, Account] = {(a.job, a.attempt): a for a in accounts}
        self._slices: dict[tuple[int, int, int], Slice] = {(s.hour, s.job, s.attempt): s for s in slices}
        self._changed: set[tuple[int, int, int]] = set()
        self._last: float | None = None

    def look(self, now: float, gpus: int, held: Sequence[Held]) -> list[Account]:
        """Enter what happened since the last look; returns accounts whose lease is over, to be closed."""
        if self._last is not None and 0 < now - self._last <= LONGEST_LOOK:
            self._slice(now, 0, 0).held += gpus * (now - self._last)
        self._last = now
        for one in held:
            self._enter(now, one)
        present = {(one.lease.job, one.lease.attempt) for one in held}
        return [account for key, account in self.accounts.items() if key not in present]

    def open(self, one: Held) -> None:
        """An attempt has started: it has an account from its grant on."""
        self._account(one.lease.granted_at, one)

    def checkpoint(self, job: int, now: float) -> None:
        """The job has saved one."""
        for account in self.accounts.values():
            if account.job == job:
                account.checkpoint_at = now

    def close(self, account: Account, attempt: m.Attempt | None, now: float) -> None:
        """The lease is over; what is known of the attempt's end, if it is known. Then it is to be
        forgotten, once it is written."""
        ended = attempt.ended_at if attempt is not None and attempt.ended_at is not None else now
        self._hold(account, max(account.seen_at, ended))
        account.ended_at = account.seen_at
        account.windows, account.low = {}, {}
        if attempt is not None:
            account.reason = str(attempt.reason) if attempt.reason is not None else None
            account.resumed = attempt.resumed_from is not None

    def forget(self, accounts: Iterable[Account]) -> None:
        for account in accounts:
            self.accounts.pop((account.job, account.attempt), None)

    def take_changes(self, now: float) -> list[Slice]:
        """Slices that have changed since the last call; those of past hours are forgotten here."""
        changed = [self._slices[key] for key in self._changed]
        self._changed.clear()
        hour = int(now // HOUR)
        self._slices = {key: s for key, s in self._slices.items() if key[0] >= hour - 1}
        return changed

    def change_all(self) -> None:
        """What was written is gone: all that is known here is to be written again."""
        self._changed.update(self._slices)

    def put_back(self, slices: Iterable[Slice]) -> None:
        """They could not be written."""
        for one in slices:
            key = one.hour, one.job, one.attempt
            self._slices.setdefault(key, one)
            self._changed.add(key)

    # ---- one lease

    def _enter(self, now: float, one: Held) -> None:
        account = self._account(now, one)
        account.gpu_memory = one.gpu_memory or account.gpu_memory
        seconds = now - account.seen_at
        self._hold(account, now)
        if not 0 < seconds <= LONGEST_LOOK:
            return
        here = self._slice(now, account.job, account.attempt)
        slot = int(now / (self.after / SLOTS))
        memory = 0.0
        for use in one.uses:
            memory += use.memory or 0.0
            if use.percent is None:
                continue
            here.measured += seconds
            here.busy += seconds * use.percent / 100
            here.idle += seconds if use.percent < self.below else 0.0
            add(account.windows.setdefault(use.uuid, Window()), slot, use.percent)
        here.memory += seconds * memory
        here.memory_peak = max(here.memory_peak, int(memory))
        if one.usage is not None:
            here.seconds += seconds
            here.cores += seconds * one.usage.cpu
            here.host_peak = max(here.host_peak, one.usage.memory)
        judge(account, now, self.after, self.below)

    def _account(self, now: float, one: Held) -> Account:
        key = one.lease.job, one.lease.attempt
        if key not in self.accounts:
            self.accounts[key] = Account(
                job=key[0],
                attempt=key[1],
                user=one.job.user,
                name=one.job.name,
                gpus=len(one.lease.gpus),
                cpu=one.lease.cpu,
                memory=one.job.resources.memory,
                gpu_memory=one.gpu_memory,
                granted_at=one.lease.granted_at,
                seen_at=min(one.lease.granted_at, now),
            )
        return self.accounts[key]

    def _hold(self, account: Account, until: float) -> None:
        """From `seen_at` on, divided among the hours."""
        at = account.seen_at
        while at < until:
            end = min(until, (at // HOUR + 1) * HOUR)
            self._slice(at, account.job, account.attempt).held += account.gpus * (end - at)
            at = end
        account.seen_at = max(account.seen_at, until)

    def _slice(self, moment: float, job: int, attempt: int) -> Slice:
        key = int(moment // HOUR), job, attempt
        if key not in self._slices:
            self._slices[key] = Slice(hour=key[0], job=job, attempt=attempt)
        self._changed.add(key)
        return self._slices[key]
