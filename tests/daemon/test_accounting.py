"""What GPUs were held for: accounts that add up, over restarts; waste that is pointed out."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tests.client.topping import job as view
from tests.daemon.hooks import Hooks
from tests.daemon.real import RealDaemon, wait_until
from tests.shell.storage.storing import add
from tests.support import until
from tfctl.commands.report import hours, lines
from tfctl.render.jobs import now as seen_now
from tfctl.render.jobs import whole
from trainforge.api import EventView, Usage, Waste
from trainforge.api.report import JobAccount, ReportAnswer
from trainforge.spec import Resources
from trainforge.states import EndReason, JobState
from trainforged import config
from trainforged.core import messages as m
from trainforged.core.state import State
from trainforged.daemon.accounting.ledger import LONGEST_LOOK, GpuUse, Held, Ledger
from trainforged.daemon.accounting.summary import summary
from trainforged.daemon.accounting.waste import SLOTS, waste
from trainforged.daemon.accounting.watch import AccountWatch
from trainforged.daemon.answering.views import moment
from trainforged.daemon.engine import Engine
from trainforged.devices.history import History
from trainforged.storage.accounts import HOUR, AccountStore, Slice
from trainforged.storage.jobs.store import JobStore

T0 = 1_000_000 * 3600.0  # the beginning of an hour
GIB = 2**30


def lease(job: int = 1, attempt: int = 1, gpus: tuple[str, ...] = ("a", "b"), at: float = T0) -> m.Lease:
    return m.Lease(job=job, attempt=attempt, gpus=gpus, cpu=4, granted_at=at)


def held(of: m.Lease, *percents: float | None, user: str = "alice", name: str = "net") -> Held:
    job = m.Job(
        id=of.job, name=name, user=user, state=JobState.RUNNING, submitted_at=T0, script=True,
        resources=Resources(gpu=len(of.gpus), memory=8 * GIB),
    )  # fmt: skip
    uses = [GpuUse(uuid=uuid, percent=p, memory=GIB) for uuid, p in zip(of.gpus, percents, strict=False)]
    usage = Usage(cpu=2.0, memory=3 * GIB)
    return Held(lease=of, job=job, uses=uses, usage=usage, gpu_memory=160 * GIB)


class Book:
    """A ledger with its store, in a time of its own."""

    def __init__(self, folder: Path) -> None:
        self.store = AccountStore(folder / "accounts.db").open()
        self.ledger = Ledger([], [], 1800.0, 5.0)
        self.now = T0

    def spend(self, seconds: float, *all_held: Held, every: float = 5.0) -> None:
        for _ in range(int(seconds / every)):
            self.now += every
            self.ledger.look(self.now, 4, all_held)

    def end(self, reason: EndReason, *, resumed: str | None = None, still: tuple[Held, ...] = ()) -> None:
        """The leases that are not among `still` are over now."""
        for account in self.ledger.look(self.now, 4, still):
            attempt = m.Attempt(
                job=account.job, number=account.attempt, granted_at=account.granted_at,
                ended_at=self.now, reason=reason, resumed_from=resumed,
            )  # fmt: skip
            self.ledger.close(account, attempt, self.now)
        self.write()

    def write(self) -> None:
        accounts = list(self.ledger.accounts.values())
        self.store.write(accounts, self.ledger.take_changes(self.now))
        self.ledger.forget(account for account in accounts if account.ended_at is not None)

    def restart(self) -> None:
        accounts = self.store.open_accounts()
        since = min([self.now, *(account.seen_at for account in accounts)])
        self.ledger = Ledger(accounts, self.store.slices(since), 1800.0, 5.0)

    def report(self, since: float = T0) -> ReportAnswer:
        self.write()
        return summary(self.store.accounts(since), self.store.slices(since), since, self.now, {})


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    book = Book(tmp_path)
    yield book
    book.store.close()


def test_what_was_held_and_used_adds_up(book: Book) -> None:
    mine = held(lease(), 80.0, 0.0)
    book.spend(100, mine)
    (job,) = book.report().jobs
    assert (job.gpu_seconds, job.busy_seconds, job.idle_seconds) == pytest.approx((200, 80, 100))
    assert job.mean_utilization == pytest.approx(40)
    assert (job.peak_gpu_memory, job.mean_gpu_memory) == (2 * GIB, pytest.approx(2 * GIB))
    assert (job.cpu, job.mean_cpu, job.memory, job.peak_memory) == (4, pytest.approx(2), 8 * GIB, 3 * GIB)
    assert book.report().free_seconds == pytest.approx(4 * 95 - 200)


def test_users_and_projects_are_summed_apart(book: Book) -> None:
    book.spend(
        100, held(lease(1), 50, 50), held(lease(2), 50, 50, user="bob"), held(lease(3), 9, 9, name="x")
    )
    answer = book.report()
    assert [(g.name, g.jobs, g.gpu_seconds) for g in answer.users] == [("alice", 2, 400), ("bob", 1, 200)]
    assert [(g.name, g.gpu_seconds) for g in answer.projects] == [("net", 400), ("x", 200)]
    assert answer.gpu_seconds == 600


def test_a_restart_loses_nothing_and_what_it_did_not_see_is_not_measured(book: Book) -> None:
    mine = held(lease(), 50, 50)
    book.spend(100, mine)
    book.write()
    book.restart()
    book.now += 2 * HOUR  # the daemon was away
    book.spend(5, mine)
    book.spend(100, mine)
    (job,) = book.report().jobs
    assert job.gpu_seconds == pytest.approx(2 * (2 * HOUR + 205))
    assert job.unmeasured_seconds == pytest.approx(2 * (2 * HOUR + 5))
    assert job.mean_utilization == pytest.approx(50)
    assert {s.hour for s in book.store.slices(0) if s.job} == {T0 // HOUR + n for n in range(3)}


def test_a_killed_daemon_costs_what_was_not_written_its_measure_only(book: Book) -> None:
    mine = held(lease(), 50, 50)
    book.spend(100, mine)
    book.write()
    book.spend(20, mine)  # not written
    book.restart()
    book.spend(5, mine)
    (job,) = book.report().jobs
    assert job.gpu_seconds == pytest.approx(250)
    assert job.unmeasured_seconds == pytest.approx(0)  # 25 s are as one look


def test_time_is_divided_among_the_hours_and_a_report_begins_with_one(book: Book) -> None:
    mine = held(lease(at=T0 + HOUR - 50), 50, 50)
    book.now = T0 + HOUR - 50
    book.spend(150, mine)
    assert book.report(T0).gpu_seconds == pytest.approx(300)
    assert book.report(T0 + HOUR + 7).gpu_seconds == pytest.approx(200)
    assert book.report(T0 + HOUR + 7).since == moment(T0 + HOUR)


def test_what_crashes_cost_and_resuming_won(book: Book) -> None:
    first = held(lease(), 50, 50)
    book.spend(100, first)
    book.ledger.checkpoint(1, T0 + 60)
    book.end(EndReason.USER_ERROR)
    book.spend(10)  # waits
    second = held(lease(attempt=2, at=book.now), 50, 50)
    book.spend(50, second)
    book.end(EndReason.HANG, resumed="/c/60")
    third = held(lease(attempt=3, at=book.now), 50, 50)
    book.spend(20, third)
    book.end(EndReason.SUCCEEDED, resumed="/c/60")
    (job,) = book.report().jobs
    assert job.lost_seconds == pytest.approx(2 * (40 + 50))  # the second one saved nothing
    assert job.won_seconds == pytest.approx(2 * (60 + 60))
    assert (job.attempts, job.running) == (3, False)


@pytest.mark.parametrize("reason", [EndReason.SUCCEEDED, EndReason.CANCELLED, EndReason.TIME_LIMIT])
def test_what_was_ordered_is_not_lost(book: Book, reason: EndReason) -> None:
    book.spend(100, held(lease(), 50, 50))
    book.end(reason)
    assert book.report().lost_seconds == 0


def test_an_attempt_that_is_over_before_anybody_looks_is_counted(book: Book) -> None:
    book.spend(10)
    short = held(lease(at=book.now))
    book.ledger.open(short)
    book.now += 3
    book.end(EndReason.SUCCEEDED)
    (job,) = book.report().jobs
    assert (job.gpu_seconds, job.unmeasured_seconds, job.mean_utilization) == (6.0, 6.0, None)


@pytest.mark.parametrize(
    "heard", [["attempt_started"], ["attempt_started", "attempt_ended"], ["attempt_ended"]]
)
async def test_an_attempt_that_starts_and_ends_at_once_is_counted(
    book: Book, tmp_path: Path, heard: list[str]
) -> None:
    """Given a start and an end that the engine took in one batch, so that the lease is gone when the start
    is told, or an end alone, then the attempt is found in storage, and counted once."""
    store = JobStore(tmp_path / "trainforge.db").open()
    over = msgspec.structs.replace(held(lease(8)).job, state=JobState.SUCCEEDED)
    attempt = m.Attempt(
        job=8, number=2, gpus=("a", "b"), granted_at=T0, ended_at=T0 + 3, reason=EndReason.SUCCEEDED
    )
    add(store, over)
    store.commit([m.AttemptChanged(attempt=attempt)], {})
    watch = watch_of(book, State(), store)
    for event in heard:
        watch.hear([started_event(8, 2, event)])
        (job,) = (await watch.report(0.0)).jobs
        assert (job.job, job.gpu_seconds, job.running) == (8, 6.0, False)


def watch_of(book: Book, state: State, store: JobStore) -> AccountWatch:
    return AccountWatch(
        book.store,
        Engine(state, store, perform=lambda effect: None, publish=lambda events: None),
        history=lambda uuid, seconds: History().of(uuid),
        usage=lambda job: None,
        stored=store.job,
        attempts=store.attempts,
        settings=config.Waste,
        clock=lambda: book.now,
    )


def started_event(job: int, attempt: int = 1, type: str = "attempt_started") -> EventView:
    data = {"attempt": attempt}
    return EventView(id=1, time=moment(T0), type=type, job=job, message="", data=data)


async def test_what_starts_while_accounts_are_read_is_not_lost(book: Book, tmp_path: Path) -> None:
    book.spend(10, held(lease(7), 50, 50))
    book.write()
    started = held(lease(8))
    state = State()
    state.jobs[8], state.leases[8] = started.job, started.lease
    store = JobStore(tmp_path / "trainforge.db").open()
    watch = watch_of(book, state, store)
    watch.hear([started_event(8)])
    task = asyncio.create_task(watch.run())
    open_jobs = await until(lambda: {a.job for a in book.store.open_accounts()} == {8} or None, seconds=60.0)
    assert open_jobs
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert {one.job for one in book.report().jobs} == {7, 8}
    store.close()


def test_a_damaged_file_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "accounts.db").write_bytes(b"not a database" * 1000)
    store = AccountStore(tmp_path / "accounts.db").open()
    assert store.open_accounts() == []
    store.close()
    assert len(list(tmp_path.glob("accounts.db.damaged-*"))) == 1


def test_what_can_be_read_of_a_damaged_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "accounts.db"
    with contextlib.closing(AccountStore(path).open()) as store:
        store.write([], [Slice(hour=1, job=job, attempt=1, held=1.0) for job in range(3000)])
    with path.open("r+b") as file:  # in the middle of the table
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"torn" * 1024)
    with contextlib.closing(AccountStore(path).open()) as store:
        kept = {one.job for one in store.slices(0.0)}
    assert {0, 2999} <= kept
    assert 2000 < len(kept) < 3000


def test_old_accounts_go(book: Book) -> None:
    book.spend(100, held(lease(), 50, 50))
    book.end(EndReason.SUCCEEDED)
    book.store.tidy(T0 + 401 * 24 * HOUR)
    assert book.report().jobs == ()


# ---------------------------------------------------------------- waste


def wasted(book: Book, job: int = 1) -> Waste | None:
    account = next(a for a in book.ledger.accounts.values() if a.job == job)
    return waste(account, book.now, book.ledger.after, [("a", 0), ("b", 1)])


def test_a_gpu_that_is_not_used_for_half_an_hour_is_pointed_out(book: Book) -> None:
    mine = held(lease(), 90.0, 2.0)
    book.spend(1600, mine)
    assert wasted(book) is None
    book.spend(400, mine)
    found = wasted(book)
    assert found is not None
    assert found.mean_utilization == 2.0
    assert found.sentence.startswith("has used 2.0 % of GPU 1 for 3")
    book.spend(1800, held(lease(), 90.0, 60.0))
    assert wasted(book) is None


def test_a_moment_of_work_in_half_an_hour_of_nothing_is_waste_and_one_in_ten_is_not(book: Book) -> None:
    for _ in range(20):
        book.spend(5, held(lease(), 90.0, 100.0))
        book.spend(95, held(lease(), 90.0, 0.0))
    assert wasted(book) is None
    for _ in range(12):
        book.spend(5, held(lease(), 90.0, 100.0))
        book.spend(295, held(lease(), 90.0, 0.0))
    assert wasted(book) is not None


def test_nobody_is_accused_of_what_was_not_seen(book: Book) -> None:
    mine = held(lease(), None, 1.0)
    book.spend(900, mine)
    book.now += 900
    book.spend(900, mine)
    assert wasted(book) is None
    book.spend(1000, mine)
    found = wasted(book)
    assert found is not None
    assert "GPU 1 for" in found.sentence  # of the other one nothing is known


def test_waste_survives_a_restart(book: Book) -> None:
    mine = held(lease(), 90.0, 2.0)
    book.spend(2000, mine)
    book.write()
    book.restart()
    assert wasted(book) is not None
    book.now += LONGEST_LOOK + 5
    book.spend(5, mine)
    assert wasted(book) is not None


def test_a_window_stays_small(book: Book) -> None:
    book.spend(20_000, held(lease(), 90.0, 2.0), every=20)
    (account,) = book.ledger.accounts.values()
    assert len(account.windows["a"].slots) <= SLOTS + 1


# ---------------------------------------------------------------- shown


def test_the_table_says_it_all() -> None:
    job = JobAccount(
        job=12, name="net", user="alice", gpus=2, attempts=2, running=True, gpu_seconds=7200.0,
        busy_seconds=3600.0, idle_seconds=1800.0, unmeasured_seconds=0.0, mean_utilization=50.4,
        gpu_memory=160 * GIB, mean_gpu_memory=20.0 * GIB, peak_gpu_memory=40 * GIB, cpu=8, mean_cpu=3.21,
        memory=8 * GIB, peak_memory=3 * GIB, lost_seconds=360.0, won_seconds=0.0, waste="holds GPU 1 and …",
    )  # fmt: skip
    answer = ReportAnswer(
        since=moment(T0), until=moment(T0 + HOUR), gpu_seconds=7200.0, busy_seconds=3600.0,
        idle_seconds=1800.0, unmeasured_seconds=0.0, free_seconds=0.0, lost_seconds=360.0,
        won_seconds=0.0, users=(), projects=(), jobs=(job,),
    )  # fmt: skip
    text = "\n".join(lines(answer))
    assert "2.0 GPU hours held, 0.50 held but idle, 0.10 lost to crashes, 0.00 won by resuming" in text
    row = next(line for line in text.splitlines() if "net" in line)
    assert "50%  40.0 GiB of 160 GiB  3.2 of 8  3.0 GiB of 8.0 GiB  0.50" in row
    assert text.endswith("job 12 (net) holds GPU 1 and …")
    assert (hours(360_000), hours(36)) == ("100", "0.01")


def test_a_job_that_wastes_says_so_wherever_it_is_shown() -> None:
    said = Waste(since=moment(T0), mean_utilization=0.4, sentence="holds GPU 1 and has used 0.4 % of it")
    job = view(3, waste=said)
    assert ("waste", said.sentence) in whole(job)
    assert seen_now(job, 80, brief=True) == said.sentence


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    hooks = Hooks()
    yield hooks
    hooks.close()


def test_the_real_daemon_counts_points_out_and_tells(
    start_daemon: Callable[..., RealDaemon], tmp_path: Path, hooks: Hooks
) -> None:
    settings = tmp_path / "trainforged.yaml"
    settings.write_text("waste: {below: 100, after: 6s}\n")  # simulated GPUs are never idle
    daemon = start_daemon(2, "--config", str(settings))
    tell = {"webhook": hooks.address(), "on": ["waste"]}
    job = daemon.command(
        "sh", "-c", "while [ ! -e finish ]; do sleep 0.05; done", resources={"gpu": 2}, notify=tell
    ).id

    def sentence() -> str | None:
        with daemon.client() as client:
            found = client.job(job).waste
        return found.sentence if found is not None else None

    wait_until(sentence, "waste to be noticed")
    wait_until(lambda: hooks.got, "its owner to be told")
    assert "has used" in hooks.got[0][1]["subject"]
    daemon.stop()
    daemon.start()
    found = wait_until(sentence, "it to be known after the restart")
    assert found.startswith("has used ")
    (daemon.folder / "finish").touch()
    daemon.wait_for(job)
    assert sentence() is None
    with daemon.client() as client:
        assert [e.type for e in client.events_page(0, job=job).events].count("waste_noticed") == 1
    answer = json.loads(daemon.tfctl("report", "--since", "1h", "--json").stdout)
    (account,) = answer["jobs"]
    assert (account["job"], account["gpus"], account["running"]) == (job, 2, False)
    assert account["gpu_seconds"] >= account["busy_seconds"] > 0
    assert account["gpu_seconds"] > 2 * 6
    assert "PROJECT" in daemon.tfctl("report").stdout
    assert daemon.tfctl("report", "--since", "yesterday", check=False).returncode == 2


def test_jobs_of_a_moment_are_counted_too(daemon: RealDaemon) -> None:
    for _ in range(3):
        daemon.wait_for(daemon.command("true", resources={"gpu": 1}).id)

    def counted() -> bool:
        jobs = json.loads(daemon.tfctl("report", "--json").stdout)["jobs"]
        return sorted(one["job"] for one in jobs if one["gpu_seconds"] > 0 and not one["running"]) == [
            1,
            2,
            3,
        ]

    wait_until(counted, "three accounts")
