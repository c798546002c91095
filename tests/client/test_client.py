"""The client's methods, against the served API: one per route, typed, and refusals as ApiError."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.daemon import Daemon
from tests.shell.fake_service import UUID
from trainforge.api import ErrorCode, FileEntry, RetryRequest, SubmitRequest, SweepJob, SweepRequest
from trainforge.client.client import ApiError, Client, NoDaemon
from trainforge.states import JobState
from trainforged.web.app import TABLE


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "d.sock") as daemon:
        yield daemon


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    with Client(daemon.path) as client:
        yield client


def request(name: str, hold: bool = False) -> SubmitRequest:
    return SubmitRequest(spec={"project": {"name": name}}, request_id=name, workdir="/w", hold=hold)


def test_jobs_from_submission_to_removal(client: Client, daemon: Daemon) -> None:
    job = client.submit(request("one"))
    assert (job.id, job.state) == (1, JobState.QUEUED)
    assert client.submit(request("one")).id == 1
    assert [job.id for job in client.submit_all([request("two"), request("three")])] == [2, 3]
    assert client.submit_all([]) == ()
    same = SweepJob(request_id="three")
    named = SweepJob(request_id="other", spec={"project": {"name": "other"}})
    swept = SweepRequest(spec={"project": {"name": "three"}}, workdir="/w", jobs=(same, named))
    assert [(job.id, job.name) for job in client.submit_sweep(swept)] == [(3, "three"), (4, "other")]
    shown = client.job(1)
    assert shown.attempts is not None
    assert shown.attempts[0].gpus == (UUID,)

    assert client.hold(1).state == JobState.HELD
    assert client.release(1).state == JobState.QUEUED
    assert client.update(1, {"schedule.priority": 5}).priority == 5
    assert client.path(1).checkpoints[0].best
    assert client.cancel(1).state == JobState.CANCELLED
    client.cancel(2, now=True)
    assert daemon.service.history[-1].type == "cancelled_now"
    assert client.retry(1, RetryRequest(request_id="again")).id == 5
    assert client.remove(1, keep="best").id == 1
    assert daemon.service.history[-1].type == "job_removed_but_best"
    assert client.prune(60, dry_run=True).jobs == (2,)
    assert client.prune(60).freed == 100


def test_jobs_are_listed(client: Client) -> None:
    client.submit_all([request(f"j{n}", hold=n % 2 == 0) for n in range(5)])

    page = client.jobs(limit=2)
    assert [job.id for job in page.jobs] == [5, 4]
    assert [job.id for job in client.jobs(limit=2, cursor=page.next).jobs] == [3, 2]
    held = client.jobs(states=[JobState.HELD, JobState.FAILED], name="j*")
    assert [job.id for job in held.jobs] == [5, 3, 1]
    assert client.jobs(user="bob").jobs == ()
    assert [job.id for job in client.all_jobs()] == [5, 4, 3, 2, 1]


def test_all_jobs_come_from_all_pages(client: Client) -> None:
    client.submit_all([request(f"j{n}") for n in range(1500)])

    assert sum(1 for _ in client.all_jobs()) == 1500


def test_what_jobs_say(client: Client, daemon: Daemon) -> None:
    client.submit(request("one"))
    daemon.service.output[1] = [b"one\n", bytes(200_000), b"\xff"]

    assert b"".join(client.logs(1)) == b"one\n" + bytes(200_000) + b"\xff"
    assert b"".join(client.logs(1, attempt="all", rank=0, tail=1)) == b"\xff"
    metrics = client.metrics(1, ["loss", "lr"], since=1.5, points=10)
    assert [series.name for series in metrics.series] == ["loss", "lr"]
    assert metrics.series[0].value == (0.5, "NaN")
    assert [series.name for series in client.metrics(1).series] == ["loss", "accuracy"]


def test_past_events_come_from_all_pages(client: Client, daemon: Daemon) -> None:
    for n in range(1200):
        daemon.do(daemon.service.happen, "one", n % 2)
    daemon.service.all[1] = client.submit(request("one"))

    assert [event.id for event in client.events()] == list(range(1, 1202))
    assert [event.id for event in client.events(1190, job=1)] == [1192, 1194, 1196, 1198, 1200, 1201]
    assert client.events_page(limit=3).next == 3


def test_contents_are_uploaded_once_and_only_what_is_missing(client: Client, daemon: Daemon) -> None:
    small, large = b"hello", bytes(range(256)) * 20_000  # the large one goes out in pieces
    contents = {f"f{n}": data for n, data in enumerate((small, large, small))}
    entries = [
        FileEntry(path=path, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        for path, data in contents.items()
    ]
    entries.append(FileEntry(path="link", target="f0"))

    assert client.upload(entries, lambda entry: io.BytesIO(contents[entry.path])) == 2
    assert client.upload(entries, lambda entry: io.BytesIO(contents[entry.path])) == 0
    assert sorted(daemon.service.contents.values()) == sorted([small, large])


def test_a_content_that_is_not_what_was_announced(client: Client, tmp_path: Path) -> None:
    with pytest.raises(ApiError) as refused:
        client.put_file("0" * 64, lambda: io.BytesIO(b"else"))
    assert refused.value.code == ErrorCode.INVALID_REQUEST

    class Shrinking(io.BytesIO):
        def seek(self, offset: int, whence: int = 0) -> int:
            return super().seek(offset, whence) + 3_000_000

    with pytest.raises(OSError, match="become shorter"):
        client.put_file("0" * 64, lambda: Shrinking(b"x"))
    with pytest.raises(FileNotFoundError):
        client.put_file("0" * 64, lambda: (tmp_path / "gone").open("rb"))
    assert client.status().user == "alice"  # the connection is not left half used


def test_a_file_too_large_is_refused_while_it_is_sent(tmp_path: Path) -> None:
    hasty = Daemon(tmp_path / "d.sock", file=2**20, linger=0.0)  # closes while the body is on its way
    with hasty, Client(hasty.path) as client:
        with pytest.raises(ApiError) as refused:
            client.put_file("0" * 64, lambda: io.BytesIO(bytes(50 * 2**20)))
        assert (refused.value.code, refused.value.status) == (ErrorCode.TOO_LARGE, 413)
        assert client.status().user == "alice"


def test_the_machine(client: Client) -> None:
    assert client.gpus().gpus[0].history is None
    history = client.gpus(history=600).gpus[0].history
    assert history is not None
    assert history.utilisation == (1,)
    assert client.drain(UUID, "dust").reason == "dust"
    assert client.undrain(UUID).state == "free"
    assert client.status().gpus_total == 1
    assert client.disk().database == 3
    assert "/v1/jobs" in client.openapi()["paths"]
    assert "trainforge_jobs" in client.prometheus()


def test_a_refusal_says_what_and_where(client: Client) -> None:
    with pytest.raises(ApiError, match="project: required") as refused:
        client.submit(SubmitRequest(spec={}, request_id="a"))
    error = refused.value
    assert (error.code, error.status) == (ErrorCode.INVALID_SPEC, 422)
    assert [detail.path for detail in error.details] == ["[0].spec.project"]
    for call in (
        lambda: client.job(9), lambda: client.cancel(9), lambda: list(client.logs(9)),
        lambda: list(client.events(job=9)), lambda: next(client.watch(job=9)), lambda: client.wait(9),
    ):  # fmt: skip
        with pytest.raises(ApiError) as missing:
            call()
        assert missing.value.code == ErrorCode.NO_SUCH_JOB


@pytest.mark.parametrize("name", ["a b", "a&b=c", "ä", "a/../b", "a\r\nX: y", "*?[x]"])
def test_names_travel_as_they_are(client: Client, daemon: Daemon, name: str) -> None:
    asked = []
    jobs = daemon.service.jobs

    async def spy(which):  # type: ignore[no-untyped-def]
        asked.append(which.name)
        return await jobs(which)

    daemon.service.jobs = spy
    client.jobs(name=name)
    with pytest.raises(ApiError):
        client.drain(name)

    assert asked == [name]


def test_an_empty_filter_is_no_filter_to_be_left_out(client: Client) -> None:
    for wanted in ({"name": ""}, {"user": ""}):
        with pytest.raises(ApiError, match="length >= 1"):
            client.jobs(**wanted)


def test_nobody_is_there(tmp_path: Path) -> None:
    with pytest.raises(NoDaemon) as nobody:
        Client(tmp_path / "none.sock").status()
    assert list(nobody.value.tried) == [tmp_path / "none.sock"]
    assert "No such file or directory" in str(nobody.value)
    with pytest.raises(NoDaemon):
        next(Client(tmp_path / "none.sock").watch(reconnect=False))


def test_more_than_jobs_as_they_are(client: Client) -> None:
    job = client.submit(request("seen")).id
    insight = client.insight
    assert insight.incident(job).last_metrics == {"loss": "NaN"}
    assert insight.spec(job).workdir == "/w"
    assert insight.differences(job).with_ is None
    assert insight.differences(job, 7).with_ == 7
    assert insight.checkpoints(job).checkpoints == ()
    assert [line.text for line in insight.search(job, "error", rank=0).lines] == ["error"]
    assert insight.history(job, since=5.0).times == ()
    assert [job.id for job in insight.compare([job]).jobs] == [job]
    assert insight.gpus_history(since=5.0, until=7.0).to == 7.0
    assert insight.gpus_timeline(since=5.0).from_ == 5.0
    with pytest.raises(ApiError) as missing:
        insight.incident(99)
    assert missing.value.code == ErrorCode.NO_SUCH_JOB


def test_every_route_has_a_method(client: Client, daemon: Daemon) -> None:
    """Each method is called above or here; together they reach every route of the table, but those of a
    browser."""
    test_jobs_from_submission_to_removal(client, daemon)
    test_the_machine(client)
    test_more_than_jobs_as_they_are(client)
    client.report()
    with pytest.raises(ApiError, match="there is no web page: it is off"):
        client.sign_in()
    last = client.submit(request("last")).id
    list(client.logs(last))
    client.metrics(last)
    client.points(last, "loss")
    client.jobs()
    list(client.events(job=last))
    list(client.events())
    client.upload([FileEntry(path="f", sha256=hashlib.sha256(b"").hexdigest())], lambda _: io.BytesIO())

    from trainforged.web.context import CONTEXT

    assert daemon.serving is not None
    counted = daemon.serving._runner.app[CONTEXT].requests
    reached = {(method, route) for (method, route, status) in counted if status < 300}
    browsers = {("POST", "/v1/sign-in"), ("GET", "/v1/session"), ("POST", "/v1/sign-out")}
    assert reached == {(route.method, route.path) for route in TABLE} - browsers
