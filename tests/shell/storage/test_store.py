"""trainforge.db as the daemon uses it: what was committed is there, whole and in order."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.shell.storage.storing import NOW, a_job, a_submission, add, happened
from trainforge.api import Git
from trainforge.spec import Environment, JobSpec, Project, Resources, Schedule, Training
from trainforge.states import EndReason, JobState
from trainforged.core import messages as m
from trainforged.storage.jobs.store import DuplicateRequest, JobStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trainforge.db"


@pytest.fixture
def store(path: Path) -> Iterator[JobStore]:
    store = JobStore(path).open()
    yield store
    store.close()


def reopened(store: JobStore, path: Path) -> JobStore:
    store.close()
    return JobStore(path).open()


# ---------------------------------------------------------------- what a daemon remembers


def test_a_new_store_remembers_nothing(store: JobStore) -> None:
    memory = store.load()
    assert (memory.jobs, memory.attempts, memory.leases, memory.devices) == ((), (), (), ())
    assert (memory.outcomes, memory.next_id, memory.last_event) == ({}, 1, 0)
    assert (memory.machine, memory.patience) == (None, None)


def test_all_that_was_committed_is_remembered(store: JobStore, path: Path) -> None:
    running = a_job(1, JobState.RUNNING, attempt=2, resources=Resources(gpu="2-8"))
    waiting = a_job(2, schedule=Schedule(priority=-5, after=(1,)))
    ended = a_job(3, JobState.SUCCEEDED, ended_at=NOW, attempt=1)
    add(store, running, waiting, ended)
    lease = m.Lease(job=1, attempt=2, gpus=("GPU-a", "GPU-b"), cpu=8, granted_at=NOW)
    attempts = [m.Attempt(job=1, number=n, granted_at=NOW + n) for n in (1, 2)]
    device = m.Device(uuid="GPU-a", index=0, set_aside="XID 79")
    machine = m.Machine(cpu=16, memory=2**36)
    changes = [m.LeaseChanged(lease=lease), *(m.AttemptChanged(attempt=a) for a in attempts)]
    changes += [m.AttemptChanged(attempt=m.Attempt(job=3, number=1, granted_at=NOW))]
    changes += [
        m.DeviceChanged(device=device),
        m.MachineChanged(machine=machine),
        m.PatienceChanged(patience=90),
    ]
    store.commit([*changes, happened("attempt_started", 1)], {})

    memory = reopened(store, path).load()

    assert memory.jobs == (running, waiting)
    assert memory.attempts == (attempts[1],)
    assert memory.leases == (lease,)
    assert memory.devices == (device,)
    assert memory.outcomes == {3: JobState.SUCCEEDED}
    assert (memory.next_id, memory.last_event) == (4, 1)
    assert (memory.machine, memory.patience) == (machine, 90.0)


def test_an_ended_job_that_still_holds_its_lease_is_remembered_whole(store: JobStore) -> None:
    ended = a_job(1, JobState.FAILED, ended_at=NOW, attempt=1)
    add(store, ended)
    attempt = m.Attempt(job=1, number=1, granted_at=NOW)
    lease = m.Lease(job=1, attempt=1, releasing=True, granted_at=NOW)
    store.commit([m.LeaseChanged(lease=lease), m.AttemptChanged(attempt=attempt)], {})
    memory = store.load()
    assert memory.jobs == (ended,)
    assert memory.attempts == (attempt,)
    assert memory.outcomes == {1: JobState.FAILED}


def test_the_last_change_of_a_thing_in_a_batch_counts(store: JobStore) -> None:
    job = a_job(1)
    started = a_job(1, JobState.STARTING, attempt=1)
    lease = m.Lease(job=1, attempt=1, granted_at=NOW)
    releasing = m.Lease(job=1, attempt=1, releasing=True, granted_at=NOW)
    changes = [m.JobAdded(job=job, key="k"), m.LeaseChanged(lease=lease), m.JobChanged(job=started)]
    store.commit([*changes, m.LeaseChanged(lease=releasing)], {"k": a_submission()})
    assert store.load().jobs == (started,)
    assert store.load().leases == (releasing,)
    store.commit([m.LeaseEnded(job=1)], {})
    assert store.load().leases == ()


def test_a_submission_comes_back_as_it_was(store: JobStore) -> None:
    spec = JobSpec(
        project=Project(name="r50", include=("*.bin",)),
        training=Training(command=("bash", "-c", "echo 'a b'")),
        resources=Resources(gpu=0, memory=2**33),
        environment=Environment(env={"X": "0.10", "ü": "é\n"}),
    )
    whole = a_submission(
        spec=spec,
        manifest="a" * 64,
        shell="b" * 64,
        git=Git(commit="c", dirty=True),
        resume_from=7,
        root="/p",
    )
    store.commit([m.JobAdded(job=a_job(1), key="k")], {"k": whole})
    assert store.submission(1) == whole
    assert store.submission(2) is None
    assert store.contents() == {"a" * 64, "b" * 64}


def test_an_update_replaces_the_submission(store: JobStore) -> None:
    add(store, a_job(1))
    changed = a_submission("r1", workdir="/elsewhere")
    store.commit([m.SubmissionChanged(job=1, key="u")], {"u": changed})
    assert store.submission(1) == changed
    assert store.find_requests("alice", ["r1"]) == {"r1": 1}


# ---------------------------------------------------------------- ids


def test_an_id_is_never_given_again(store: JobStore, path: Path) -> None:
    add(store, a_job(1), a_job(2, JobState.CANCELLED, ended_at=NOW))
    store.commit([m.JobRemoved(job=2)], {})
    store = reopened(store, path)
    assert store.load().next_id == 3
    with pytest.raises(ValueError, match="not above 2"):
        add(store, a_job(2))
    assert store.job(2) is None
    add(store, a_job(3))
    assert store.load().next_id == 4


def test_a_job_added_and_removed_at_once_uses_up_its_id(store: JobStore) -> None:
    store.commit([m.JobAdded(job=a_job(1), key="k"), m.JobRemoved(job=1)], {"k": a_submission()})
    assert store.load().jobs == ()
    assert store.load().next_id == 2


def test_a_removed_job_goes_with_everything_but_its_events(store: JobStore) -> None:
    add(store, a_job(1, JobState.FAILED, ended_at=NOW, attempt=1), a_job(2))
    attempt = m.Attempt(job=1, number=1, granted_at=NOW)
    lease = m.Lease(job=1, attempt=1, granted_at=NOW)
    store.commit(
        [m.AttemptChanged(attempt=attempt), m.LeaseChanged(lease=lease), happened("job_failed", 1)], {}
    )
    store.commit([m.JobRemoved(job=1)], {})
    assert (store.job(1), store.submission(1), store.attempts(1)) == (None, None, ())
    assert store.load().leases == ()
    assert store.load().outcomes == {}
    assert [event.type for event in store.events(0, job=1)] == ["job_failed"]
    assert store.find_requests("alice", ["r1", "r2"]) == {"r2": 2}


# ---------------------------------------------------------------- request ids


def test_a_request_id_belongs_to_one_job_of_a_user(store: JobStore) -> None:
    add(store, a_job(1), a_job(2, user="bob"))
    with pytest.raises(DuplicateRequest) as refused:
        store.commit([m.JobAdded(job=a_job(3), key="k")], {"k": a_submission("r1")})
    assert (refused.value.user, refused.value.request_id) == ("alice", "r1")
    store.commit([m.JobAdded(job=a_job(3, user="bob"), key="k")], {"k": a_submission("r1")})
    assert store.find_requests("alice", ["r1", "r2", "nothing"]) == {"r1": 1}
    assert store.find_requests("bob", ["r1", "r2"]) == {"r1": 3, "r2": 2}


def test_one_commit_with_a_request_id_twice_is_refused_whole(store: JobStore) -> None:
    changes = [
        m.JobAdded(job=a_job(1), key="a"),
        m.JobAdded(job=a_job(2), key="b"),
        happened("job_submitted"),
    ]
    with pytest.raises(DuplicateRequest):
        store.commit(changes, {"a": a_submission("same"), "b": a_submission("same")})
    assert store.load().next_id == 1
    assert store.events(0) == ()
    add(store, a_job(1))
    assert store.job(1) == a_job(1)


# ---------------------------------------------------------------- a commit that fails


def test_a_commit_that_fails_changes_nothing_and_the_next_one_works(store: JobStore) -> None:
    add(store, a_job(1))
    store.commit([happened("first")], {})
    before = store.load()
    bad = [m.JobChanged(job=a_job(1, JobState.HELD)), happened("lost"), m.JobChanged(job=a_job(9))]
    with pytest.raises(ValueError, match=r"\[1, 9\]"):
        store.commit(bad, {})
    assert store.load() == before
    assert [event.id for event in store.commit([happened("second")], {})] == [2]
    assert [event.type for event in store.events(0)] == ["first", "second"]


def test_a_submission_that_is_missing_changes_nothing(store: JobStore) -> None:
    with pytest.raises(KeyError):
        store.commit([m.JobAdded(job=a_job(1), key="k")], {})
    assert store.load().next_id == 1


# ---------------------------------------------------------------- events


def test_events_get_ids_in_order_of_commit(store: JobStore, path: Path) -> None:
    views = store.commit([happened("a"), happened("b", 5, why="x")], {})
    assert [(view.id, view.type, view.job, view.data) for view in views] == [
        (1, "a", None, {}),
        (2, "b", 5, {"why": "x"}),
    ]
    assert views[0].time.timestamp() == NOW
    store = reopened(store, path)
    assert store.last_event == 2
    assert [view.id for view in store.commit([happened("c")], {})] == [3]
    assert store.events(0)[:2] == views
    assert [view.id for view in store.events(1, limit=1)] == [2]
    assert [view.id for view in store.events(0, job=5)] == [2]
    assert store.events(3) == ()


def test_old_events_are_trimmed_and_their_ids_not_used_again(path: Path) -> None:
    store = JobStore(path, kept_events=10).open()
    for _ in range(5):
        store.commit([happened("tick")] * 1000, {})
    assert store.tidy() == 4990
    assert [view.id for view in store.events(0)] == list(range(4991, 5001))
    assert store.tidy() == 0
    assert [view.id for view in store.commit([happened("tick")], {})] == [5001]
    store.close()


# ---------------------------------------------------------------- lists


def test_attempts_of_a_job_are_kept_in_order(store: JobStore) -> None:
    add(store, a_job(1))
    end = m.AttemptEnd(ended_at=NOW, exit_code=1, ranks=(m.RankEnd(rank=1, error="ValueError: x"),))
    first = m.Attempt(job=1, number=1, granted_at=NOW)
    second = m.Attempt(job=1, number=2, granted_at=NOW)
    store.commit([m.AttemptChanged(attempt=second), m.AttemptChanged(attempt=first)], {})
    over = m.Attempt(job=1, number=1, granted_at=NOW, reason=EndReason.USER_ERROR, end=end)
    store.commit([m.AttemptChanged(attempt=over)], {})
    assert store.attempts(1) == (over, second)


def test_a_page_is_newest_first_and_the_cursor_goes_on_where_it_ended(store: JobStore) -> None:
    add(store, *(a_job(n) for n in range(1, 8)))
    seen, cursor = [], None
    while True:
        page = store.page(limit=3, cursor=cursor)
        seen.append([row.job.id for row in page.rows])
        cursor = page.next
        if cursor is None:
            break
    assert seen == [[7, 6, 5], [4, 3, 2], [1]]
    assert store.page(limit=7).next is None


def test_a_page_shows_what_lists_show_of_a_submission(store: JobStore) -> None:
    spec = JobSpec(
        project=Project(name="r50", description="ResNet-50"),
        training=Training(script="train.py"),
        environment=Environment(base_image="pytorch:2"),
    )
    add(store, a_job(1), spec=spec, git=Git(commit="c", dirty=False), workdir="/w")
    (row,) = store.page().rows
    assert row.job == a_job(1)
    assert (row.summary.description, row.summary.base_image) == ("ResNet-50", "pytorch:2")
    assert (row.summary.git, row.summary.workdir) == (Git(commit="c", dirty=False), "/w")


_STATES = [JobState.QUEUED, JobState.RUNNING, JobState.FAILED]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    jobs=st.lists(
        st.tuples(st.sampled_from(_STATES), st.sampled_from("ab"), st.sampled_from(["x", "xy", "z"]))
    ),
    states=st.lists(st.sampled_from(_STATES), max_size=3),
    user=st.none() | st.sampled_from("ab"),
    name=st.sampled_from([None, "x", "x*", "?", "[!x]*", "q"]),
    limit=st.integers(1, 5),
)
def test_pages_together_are_the_filtered_jobs(
    store: JobStore,
    jobs: list[tuple[JobState, str, str]],
    states: list[JobState],
    user: str | None,
    name: str | None,
    limit: int,
) -> None:
    first = store.load().next_id
    made = [a_job(n, state, user=who, name=what) for n, (state, who, what) in enumerate(jobs, first)]
    add(store, *made)
    expected = [
        job.id
        for job in reversed(made)
        if (not states or job.state in states)
        and user in (None, job.user)
        and (name is None or fnmatchcase(job.name, name))
    ]
    found: list[int] = []
    pages, cursor = 0, None
    while pages == 0 or cursor is not None:
        page = store.page(states=states, user=user, name=name, limit=limit, cursor=cursor)
        found += [row.job.id for row in page.rows]
        cursor, pages = page.next, pages + 1
    assert found == expected
    assert pages == max(1, -(-len(expected) // limit))
    assert store.counts() == {state: sum(job.state is state for job in made) for state in JobState}
    store.commit([m.JobRemoved(job=job.id) for job in made], {})


def test_jobs_that_ended_before_a_moment(store: JobStore) -> None:
    ended = [a_job(n, JobState.SUCCEEDED, ended_at=NOW + at) for n, at in ((1, 20), (2, 10), (3, 30))]
    add(store, *ended, a_job(4))
    assert [job.id for job in store.ended_before(NOW + 30)] == [2, 1]
    assert [job.id for job in store.ended_before(NOW + 31, limit=1)] == [2]


# ---------------------------------------------------------------- threads and processes


def test_readers_see_whole_commits_while_the_writer_works(store: JobStore) -> None:
    problems: list[object] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            pages, counts = store.page(limit=1000).rows, store.counts()
            if len(pages) % 10 or sum(counts.values()) % 10:
                problems.append((len(pages), counts))

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for start in range(1, 500, 10):
        add(store, *(a_job(n) for n in range(start, start + 10)))
    done.set()
    for reader in readers:
        reader.join()
    assert problems == []
    assert len(store.page(limit=1000).rows) == 500


_COMMIT_FOREVER = """
import sys
from pathlib import Path
from tests.shell.storage.storing import a_job, add, happened
from trainforged.storage.jobs.store import JobStore
store = JobStore(Path(sys.argv[1])).open()
number = store.load().next_id
while True:
    add(store, a_job(number), a_job(number + 1))
    print(number + 1, flush=True)
    number += 2
"""


def test_kill_9_among_commits_loses_none_that_was_acknowledged(path: Path) -> None:
    """Each commit adds two jobs: neither an acknowledged one nor half of one may be missing."""
    acknowledged = 0
    for acknowledgements in (1, 7, 40):
        process = subprocess.Popen(
            [sys.executable, "-c", _COMMIT_FOREVER, str(path)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[3],
            env=os.environ,
        )
        assert process.stdout is not None
        for _ in range(acknowledgements):
            acknowledged = int(process.stdout.readline())
        process.kill()
        acknowledged = max([acknowledged, *map(int, process.stdout.read().split(b"\n")[:-1])])
        process.wait()
        process.stdout.close()
        store = JobStore(path).open()
        ids = [job.id for job in store.load().jobs]
        assert ids == list(range(1, len(ids) + 1))
        assert acknowledged <= len(ids) <= acknowledged + 2
        assert len(ids) % 2 == 0
        assert len(store.find_requests("alice", [f"r{n}" for n in ids])) == len(ids)
        store.close()
