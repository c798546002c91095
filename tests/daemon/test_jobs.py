"""Jobs through the real daemon, from submission to their end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.real import RealDaemon, request, wait_until
from trainforge.client.client import ApiError
from trainforge.states import JobState

SIX_KINDS = """
import os, signal, subprocess, sys, time
def child(ignore, setsid, daemonise):
    pid = os.fork()
    if pid:
        return
    if daemonise and os.fork():
        os._exit(0)
    if setsid or daemonise:
        os.setsid()
    if ignore:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open(f"child-{os.getpid()}", "w").close()
    time.sleep(600)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for kind in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (1, 1, 1)]:
    child(*kind)
open("ready", "w").close()
while True:  # one that is forked while it is being killed
    if not os.fork():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    time.sleep(0.05)
"""


def logs(daemon: RealDaemon, job: int) -> str:
    with daemon.client() as client:
        return b"".join(client.logs(job, attempt="all")).decode()


def test_a_command_runs_in_place_and_its_output_and_status_are_kept(daemon: RealDaemon) -> None:
    job = daemon.command("sh", "-c", "echo hello from $PWD; echo $TRAINFORGE_JOB_ID; exit 3")
    ended = daemon.wait_for(job.id)
    assert (ended.state, ended.reason, ended.exit_code) == (JobState.FAILED, "user_error", 3)
    assert logs(daemon, job.id) == f"hello from {daemon.folder}\n{job.id}\n"
    assert ended.attempts is not None
    assert [(a.number, a.exit_code) for a in ended.attempts] == [(1, 3)]


def test_gpus_are_leased_and_given_back(daemon: RealDaemon) -> None:
    go = daemon.folder / "go"
    script = f"echo $CUDA_VISIBLE_DEVICES; while [ ! -e {go} ]; do sleep 0.02; done"
    first = daemon.command("sh", "-c", script, resources={"gpu": 2})
    second = daemon.command("true", resources={"gpu": 1})
    daemon.wait_for(first.id, JobState.RUNNING)
    with daemon.client() as client:
        waiting = client.job(second.id)
        assert waiting.reason == "waiting_for_gpus"
        assert waiting.why.startswith(f"waits for 1 GPU: 0 free; job {first.id} holds GPU 0, 1")
        assert [gpu.state for gpu in client.gpus().gpus] == ["leased", "leased"]
        go.touch()
        assert client.wait(second.id, 120).state is JobState.SUCCEEDED
        wait_until(lambda: {g.state for g in client.gpus().gpus} == {"free"}, "GPUs to be free")


def test_a_cancelled_job_leaves_no_process_whatever_it_forked(daemon: RealDaemon) -> None:
    (daemon.folder / "six.py").write_text(SIX_KINDS)
    job = daemon.command("python3", "six.py", recovery={"grace": 0.3})
    wait_until((daemon.folder / "ready").exists, "its children")
    wait_until(lambda: len(daemon.processes()) >= 7, "what they forked")
    daemon.tfctl("cancel", str(job.id))
    ended = daemon.wait_for(job.id)
    assert ended.state is JobState.CANCELLED
    assert daemon.processes() == []


def test_cancel_gives_time_to_save(daemon: RealDaemon) -> None:
    script = "trap 'echo saved > saved; exit 0' TERM; touch ready; while :; do sleep 0.02; done"
    job = daemon.command("sh", "-c", script)
    wait_until((daemon.folder / "ready").exists, "the job")
    daemon.tfctl("cancel", "@")
    assert daemon.wait_for(job.id).state is JobState.CANCELLED
    assert (daemon.folder / "saved").read_text() == "saved\n"


def test_a_job_killed_from_outside_is_started_again_within_its_retries(daemon: RealDaemon) -> None:
    script = "echo $TRAINFORGE_ATTEMPT >> attempts; [ $TRAINFORGE_ATTEMPT = 2 ] || kill -9 $$"
    job = daemon.command("sh", "-c", script, recovery={"max_retries": 2})
    ended = daemon.wait_for(job.id)
    assert ended.state is JobState.SUCCEEDED
    assert ended.retries == 1
    assert (daemon.folder / "attempts").read_text() == "1\n2\n"
    assert ended.attempts is not None
    assert [(a.reason, a.signal) for a in ended.attempts] == [("killed", 9), ("succeeded", None)]


def test_the_time_limit_ends_a_job(daemon: RealDaemon) -> None:
    job = daemon.command("sleep", "600", schedule={"time_limit": 0.5})
    ended = daemon.wait_for(job.id)
    assert (ended.state, ended.reason) == (JobState.FAILED, "time_limit")


def test_hold_release_and_priority(daemon: RealDaemon) -> None:
    with daemon.client() as client:
        held = client.submit(request(["true"], daemon.folder, hold=True))
        assert held.state is JobState.HELD
        assert client.update(held.id, {"schedule.priority": 7}).priority == 7
        client.release(held.id)
        assert client.wait(held.id, 120).state is JobState.SUCCEEDED
        with pytest.raises(ApiError, match="has ended: succeeded"):
            client.cancel(held.id)


def test_jobs_wait_for_other_jobs(daemon: RealDaemon) -> None:
    first = daemon.command("sh", "-c", "sleep 0.1; echo one >> order")
    second = daemon.command("sh", "-c", "echo two >> order", schedule={"after": [first.id]})
    failing = daemon.command("false", schedule={"after": [second.id]})
    never = daemon.command("true", schedule={"after": [failing.id]})
    ended = daemon.wait_for(never.id)
    assert (ended.state, ended.reason) == (JobState.FAILED, "dependency")
    assert (daemon.folder / "order").read_text() == "one\ntwo\n"


def test_a_command_that_does_not_exist_fails_with_a_sentence(daemon: RealDaemon) -> None:
    job = daemon.command("no-such-program")
    ended = daemon.wait_for(job.id)
    assert (ended.state, ended.reason) == (JobState.FAILED, "start_failed")
    assert "no-such-program" in ended.why


def test_a_removed_job_is_gone_with_its_files(daemon: RealDaemon) -> None:
    job = daemon.command("true")
    daemon.wait_for(job.id)
    folder = Path(job.dir)
    assert folder.exists()
    wait_until(lambda: daemon.tfctl("rm", str(job.id), check=False).returncode == 0, "its release")
    assert daemon.tfctl("status", str(job.id), check=False).returncode == 5
    wait_until(lambda: not folder.exists(), "its folder to go")


def test_output_is_followed_over_attempts(daemon: RealDaemon) -> None:
    script = "echo attempt $TRAINFORGE_ATTEMPT; sleep 0.2; [ $TRAINFORGE_ATTEMPT = 2 ]"
    job = daemon.command("sh", "-c", script, recovery={"max_retries": 1})
    with daemon.client() as client:
        text = b"".join(client.logs(job.id, attempt="all", follow=True)).decode()
    assert text == "attempt 1\n==> attempt 2 <==\nattempt 2\n"


def test_secrets_of_the_shell_reach_the_job_and_no_answer(daemon: RealDaemon) -> None:
    job = daemon.tfctl("submit", "--json", "--", "sh", "-c", "echo $SECRET_TOKEN", SECRET_TOKEN="hunter2")
    assert "hunter2" not in job.stdout
    daemon.tfctl("wait", "@")
    assert daemon.tfctl("logs", "@").stdout == "hunter2\n"
    assert "hunter2" not in daemon.tfctl("status", "@", "--json").stdout
    database = b"".join(path.read_bytes() for path in daemon.state_dir.glob("trainforge.db*"))
    assert b"hunter2" not in database
    kept = [
        path for path in daemon.state_dir.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()
    ]
    output = [path for path in kept if path.name == "output.log"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in set(kept) - set(output))
    assert daemon.state_dir.stat().st_mode & 0o077 == 0


def test_two_daemons_do_not_share_a_state_folder(
    daemon: RealDaemon, start_daemon: Callable[..., RealDaemon]
) -> None:
    with pytest.raises(AssertionError, match="another daemon"):
        start_daemon(2, "--state-dir", str(daemon.state_dir))
    os.kill(daemon.pid, signal.SIGHUP)
    assert daemon.command("true").id == 1


def test_settings_that_are_written_later_are_found_when_asked_to_read_them_again(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="tf-"))
    daemon = RealDaemon(folder, 1, env=os.environ | {"XDG_CONFIG_HOME": str(folder)})
    file, told = folder / "trainforge" / "trainforged.yaml", tmp_path / "told"
    try:
        daemon.start()
        daemon.send(signal.SIGHUP)
        wait_until(lambda: f"the defaults, for there is no {file}" in daemon.log.read_text(), "that word")
        file.parent.mkdir()
        file.write_text(f"notify: {{command: 'echo $TRAINFORGE_SUBJECT > {told}'}}")
        daemon.send(signal.SIGHUP)
        wait_until(lambda: f"read again: {file}" in daemon.log.read_text(), "the settings")
        daemon.wait_for(daemon.command("true").id)
        wait_until(lambda: told.exists() and "succeeded" in told.read_text(), "the notice")
    finally:
        daemon.close()
        shutil.rmtree(folder, ignore_errors=True)


def test_few_descriptors_are_enough_or_refused(
    start_daemon: Callable[..., RealDaemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = start_daemon()
    daemon.stop()
    few = ["sh", "-c", 'ulimit -S -n 64; exec "$@"', "sh", *daemon.argv()]
    monkeypatch.setattr(daemon, "argv", lambda: few)
    daemon.start()
    assert daemon.wait_for(daemon.command("true").id).exit_code == 0
    daemon.stop()
    words = f"{sys.executable} -m trainforged --simulate-gpus 1 --state-dir {daemon.state_dir}"
    refused = subprocess.run(
        ["sh", "-c", f"ulimit -n 64; exec {words}"], capture_output=True, text=True, timeout=120
    )
    assert refused.returncode != 0
    assert "only 64 open files are allowed (ulimit -n)" in refused.stderr
