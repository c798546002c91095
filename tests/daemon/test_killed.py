"""The daemon dies, at any moment: jobs go on, nothing accepted is lost, every true status is learnt."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest

from tests.daemon.real import RealDaemon, request, wait_until
from trainforge.api import JobView
from trainforge.client.client import ApiError, Client, NoDaemon
from trainforge.states import JobState


def test_a_job_goes_on_while_the_daemon_is_dead(daemon: RealDaemon) -> None:
    go = daemon.folder / "go"
    job = daemon.command(
        "sh", "-c", f"echo before; while [ ! -e {go} ]; do sleep 0.02; done; echo after; exit 7"
    )
    daemon.wait_for(job.id, JobState.RUNNING)
    daemon.kill()
    daemon.start()
    running = daemon.wait_for(job.id, JobState.RUNNING)
    assert running.attempt == 1
    go.touch()
    ended = daemon.wait_for(job.id)
    assert (ended.exit_code, ended.attempt) == (7, 1)
    assert daemon.tfctl("logs", "1").stdout == "before\nafter\n"


def test_the_status_of_a_job_that_ended_meanwhile_is_its_true_one(daemon: RealDaemon) -> None:
    go = daemon.folder / "go"
    job = daemon.command("sh", "-c", f"while [ ! -e {go} ]; do sleep 0.02; done; exit 42")
    daemon.wait_for(job.id, JobState.RUNNING)
    daemon.kill()
    go.touch()
    wait_until(lambda: not daemon.processes(), "the job to end")
    daemon.start()
    ended = daemon.wait_for(job.id)
    assert (ended.state, ended.exit_code, ended.attempt) == (JobState.FAILED, 42, 1)


def test_an_orderly_stop_is_quick_and_leaves_jobs_alone(daemon: RealDaemon) -> None:
    job = daemon.command("sleep", "600")
    daemon.wait_for(job.id, JobState.RUNNING)
    assert daemon.stops_within(2.0)
    assert daemon.processes() != []
    daemon.start()
    assert daemon.wait_for(job.id, JobState.RUNNING).attempt == 1
    daemon.tfctl("cancel", "--now", str(job.id))
    assert daemon.wait_for(job.id).state is JobState.CANCELLED
    assert daemon.processes() == []


def test_a_stop_that_was_ordered_is_carried_out_after_a_restart(daemon: RealDaemon) -> None:
    job = daemon.command("sh", "-c", "trap '' TERM; touch ready; while :; do sleep 0.05; done",
                         recovery={"grace": 1.0})  # fmt: skip
    wait_until((daemon.folder / "ready").exists, "the job")
    with daemon.client() as client:
        client.cancel(job.id)
    daemon.kill()
    daemon.start()
    assert daemon.wait_for(job.id).state is JobState.CANCELLED
    assert daemon.processes() == []


@pytest.mark.parametrize("after", [0.0, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08])
def test_killed_around_a_start_there_is_one_attempt(daemon: RealDaemon, after: float) -> None:
    job = daemon.command("sh", "-c", "echo $TRAINFORGE_ATTEMPT >> starts; sleep 0.1", resources={"gpu": 1})
    time.sleep(after)
    daemon.kill()
    daemon.start()
    ended = daemon.wait_for(job.id)
    assert ended.state is JobState.SUCCEEDED
    assert (daemon.folder / "starts").read_text() == "1\n"


def test_every_submission_that_was_acknowledged_is_there_after_a_kill(daemon: RealDaemon) -> None:
    acknowledged: list[int] = []

    def kill_among_them() -> None:
        wait_until(lambda: len(acknowledged) > 20, "some submissions")
        time.sleep(random.uniform(0.0, 0.3))  # among which of the later ones is chance
        daemon.kill()

    killer = threading.Thread(target=kill_among_them)
    killer.start()
    with daemon.client(patience=0.0) as client:
        try:
            while True:
                acknowledged.append(_held(client, daemon).id)
        except (NoDaemon, ApiError):
            pass
    killer.join()
    daemon.start()
    with daemon.client() as client:
        present = {job.id for job in client.all_jobs()}
        assert set(acknowledged) <= present
        assert len(present) <= len(acknowledged) + 1, "at most the one whose answer was lost is there too"
        assert _held(client, daemon).id == max(present) + 1


def _held(client: Client, daemon: RealDaemon) -> JobView:
    return client.submit(request(["true"], daemon.folder, hold=True))


def test_a_request_that_is_sent_again_makes_no_second_job(daemon: RealDaemon) -> None:
    again = request(["true"], daemon.folder, hold=True)
    with daemon.client() as client:
        first = client.submit(again)
        daemon.kill()
        daemon.start()
        assert client.submit(again).id == first.id
        assert len(list(client.all_jobs())) == 1


def test_a_stream_of_events_goes_on_without_a_gap_over_a_restart(daemon: RealDaemon) -> None:
    seen: list[int] = []
    with daemon.client() as client:
        stream = client.events(0, follow=True)
        daemon.command("true")
        for event in stream:
            seen.append(event.id)
            if event.type == "job_succeeded" and event.job == 1:
                daemon.kill()
                daemon.start()
                daemon.command("true")
            if event.type == "job_succeeded" and event.job == 2:
                break
    assert seen == list(range(1, len(seen) + 1))


def test_many_jobs_over_many_kills(start_daemon: Callable[..., RealDaemon]) -> None:
    daemon = start_daemon(4)
    with daemon.client() as client:
        jobs = client.submit_all(
            [
                request(
                    ["sh", "-c", f"echo {i} >> done; exit {i % 5}"], daemon.folder, resources={"gpu": i % 3}
                )
                for i in range(30)
            ]
        )
    for pause in (0.05, 0.1, 0.15, 0.2):
        time.sleep(pause)
        daemon.kill()
        daemon.start()
    codes = {job.id: daemon.wait_for(job.id).exit_code for job in jobs}
    assert codes == {job.id: i % 5 for i, job in enumerate(jobs)}
    done = (daemon.folder / "done").read_text().split()
    assert sorted(map(int, done)) == list(range(30)), "each ran exactly once"
    wait_until(lambda: not daemon.processes(), "shims to leave")


def test_a_socket_that_somebody_removed_is_put_back(daemon: RealDaemon) -> None:
    with daemon.client() as connected:
        daemon.socket.unlink()
        wait_until(daemon.socket.exists, "the socket")
        assert connected.status().pid == daemon.pid
    assert daemon.wait_for(daemon.command("true").id).exit_code == 0
    daemon.stop()
    assert not daemon.socket.exists()
