"""The commands as a user types them, against the real daemon: output, exit codes, what reaches the job."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.real import RealDaemon, own_path
from trainforge.states import JobState

JOB_FILE = """\
project:
  name: shapes
training:
  script: train.py
resources:
  gpu: 1
env:
  BATCH_SIZE: 0512
"""
SCRIPT = """\
import os, trainforge
from helper import WORD
for step in range(1, 6):
    trainforge.report(step=step, steps=5, loss=1 / step)
print(WORD, os.environ["BATCH_SIZE"], os.environ["RANK"], os.environ["WORLD_SIZE"], os.getcwd())
"""


@pytest.fixture
def project(daemon: RealDaemon) -> Path:
    folder = daemon.folder / "shapes"
    folder.mkdir()
    (folder / "trainforge.yaml").write_text(JOB_FILE)
    (folder / "train.py").write_text(SCRIPT)
    (folder / "helper.py").write_text("WORD = 'frozen'\n")
    return folder


def test_a_project_is_frozen_when_it_is_submitted(daemon: RealDaemon, project: Path) -> None:
    assert daemon.tfctl("submit", "--hold", str(project)).stdout == "submitted job 1 (shapes)\n"
    (project / "helper.py").write_text("WORD = 'edited'\n")
    daemon.tfctl("release", "1")
    assert daemon.tfctl("wait", "1").stdout == "job 1 (shapes) succeeded\n"
    assert daemon.tfctl("logs", "1").stdout == f"frozen 0512 0 1 {daemon.state_dir}/jobs/1/project\n"
    assert daemon.tfctl("submit", cwd=project).stdout == "submitted job 2 (shapes)\n"
    daemon.tfctl("wait", "2")
    assert daemon.tfctl("logs", "2").stdout.startswith("edited")


def test_what_a_job_writes_stays_its_own(daemon: RealDaemon, project: Path) -> None:
    (project / "train.py").write_text("open('helper.py', 'a').write('#')\n")
    for _ in range(2):
        daemon.tfctl("submit", cwd=project)
    daemon.tfctl("wait", "1-2")
    copies = [daemon.state_dir / "jobs" / str(job) / "project" / "helper.py" for job in (1, 2)]
    assert [copy.read_text() for copy in copies] == ["WORD = 'frozen'\n#"] * 2
    assert (project / "helper.py").read_text() == "WORD = 'frozen'\n"


def test_a_mistaken_file_is_refused_whole_with_every_mistake(daemon: RealDaemon, project: Path) -> None:
    mistakes = "resources:\n  gpus: 2\n  memory: lots\nrecovery: {hang_timeout: often}\n"
    (project / "bad.yaml").write_text(mistakes)
    done = daemon.tfctl("submit", "-f", "trainforge.yaml", "-f", "bad.yaml", cwd=project, check=False)
    assert done.returncode == 2
    assert "bad.yaml:2: resources.gpus: unknown key; did you mean gpu?" in done.stderr
    assert "bad.yaml:3: resources.memory: expected a size" in done.stderr
    assert "bad.yaml:4: recovery.hang_timeout: expected auto, off or a duration such as" in done.stderr
    assert daemon.tfctl("status", "--json").stdout == '{"jobs":[]}\n'


def test_a_sweep_queues_the_grid(daemon: RealDaemon, project: Path) -> None:
    done = daemon.tfctl("submit", "--hold", "--sweep", "LR=0.1,0.2", "--sweep", "SEED=1,2,3", cwd=project)
    assert done.stdout.count("submitted job") == 6
    jobs = json.loads(daemon.tfctl("status", "--json").stdout)["jobs"]
    with daemon.client() as client:
        environments = [client.job(job["id"]).spec["environment"]["env"] for job in jobs]  # type: ignore[index]
    assert sorted((env["LR"], env["SEED"]) for env in environments) == [
        (rate, seed) for rate in ("0.1", "0.2") for seed in ("1", "2", "3")
    ]


def test_exit_codes(daemon: RealDaemon, project: Path) -> None:
    daemon.tfctl("submit", "--", "false")
    cases = {
        ("wait", "1"): 1,
        ("status", "77"): 5,
        ("status", "no-such-name"): 5,
        ("frobnicate",): 2,
        ("submit", "nowhere"): 2,
        ("yield", "1"): 2,
        ("cancel", "1"): 2,
        ("wait", "1", "--timeout", "90"): 2,
        ("completion", "bash"): 0,
    }
    found = {words: daemon.tfctl(*words, check=False).returncode for words in cases}
    assert found == cases
    gone = daemon.tfctl("status", check=False, TRAINFORGE_SOCKET="/nonexistent")
    assert (gone.returncode, gone.stdout) == (3, "")


def test_status_to_a_pipe_is_plain_and_to_a_terminal_sized_to_it(daemon: RealDaemon) -> None:
    job = daemon.command("sleep", "600", name="a-name-that-is-quite-long-for-a-narrow-terminal")
    daemon.wait_for(job.id, JobState.RUNNING)
    piped = daemon.tfctl("status").stdout.splitlines()
    assert piped[0].split() == [
        "JOB",
        "NAME",
        "USER",
        "STATE",
        "REASON",
        "GPU",
        "TRY",
        "PROGRESS",
        "ETA",
        "ELAPSED",
        "SETTINGS",
    ]
    assert "a-name-that-is-quite-long-for-a-narrow-terminal" in piped[1]
    shown = on_a_terminal(daemon, "status", columns=80)
    assert max(len(line) for line in shown) <= 80
    assert not any(line.endswith("…") and "JOB" in line for line in shown)


def on_a_terminal(daemon: RealDaemon, *words: str, columns: int) -> list[str]:
    """What a command writes to a terminal of this width, without escape codes."""
    ours, theirs = pty.openpty()
    env = os.environ | {
        "TRAINFORGE_SOCKET": str(daemon.socket), "PATH": own_path(), "COLUMNS": str(columns), "NO_COLOR": "1",
        "TERM": "xterm",
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "tfctl", *words], stdout=theirs, env=env)
    os.close(theirs)
    text = b""
    try:
        while data := os.read(ours, 65536):
            text += data
    except OSError:  # the terminal is gone with its last writer
        pass
    os.close(ours)
    assert process.wait() == 0
    return re.sub(r"\x1b\[[0-9;]*m|\r", "", text.decode()).splitlines()


def test_metrics_are_listed_drawn_and_given_whole(daemon: RealDaemon, project: Path) -> None:
    daemon.tfctl("submit", cwd=project)
    daemon.tfctl("wait", "@")
    table = daemon.tfctl("metrics", "@").stdout.splitlines()
    assert table[1].split() == ["loss", "0.2", "0.2", "1", "5"]
    series = json.loads(daemon.tfctl("metrics", "@", "--json").stdout)["series"]
    assert [(s["name"], s["step"], s["value"][0]) for s in series] == [("loss", [1, 2, 3, 4, 5], 1.0)]
    drawn = daemon.tfctl("metrics", "@", "--plot").stdout
    assert "━━ loss 0.2" in drawn
    assert any("⠀" < character <= "⣿" for character in drawn)
    rows = daemon.tfctl("metrics", "@", "--csv").stdout.splitlines()
    assert [row.split(",")[5] for row in rows] == ["step", "1", "2", "3", "4", "5"]
    assert rows[1].startswith("1,shapes,loss,0,1,1,")
    assert len(rows) == 6
    daemon.tfctl("metrics", "@", "--parquet", "m.parquet")
    assert (daemon.folder / "m.parquet").read_bytes()[:4] == b"PAR1"
    assert daemon.tfctl("metrics", "@", "--csv", "--name", "none", check=False).returncode == 5


def test_every_point_of_a_long_series_is_exported(daemon: RealDaemon, project: Path) -> None:
    count = 23_000  # more than two answers hold
    (project / "train.py").write_text(
        f"import trainforge\nfor step in range({count}):\n    trainforge.report(step=step, loss=step % 7)\n"
    )
    daemon.tfctl("submit", cwd=project)
    daemon.tfctl("wait", "@")
    rows = daemon.tfctl("metrics", "@", "--csv", "--parquet", "m.parquet").stdout.splitlines()
    assert [row.split(",")[5] for row in rows[1:]] == [str(step) for step in range(count)]
    read = pytest.importorskip("pyarrow.parquet").read_table(daemon.folder / "m.parquet")
    assert read.column("step").to_pylist() == list(map(float, range(count)))


def test_follow_shows_the_output_and_ends_with_the_job(daemon: RealDaemon, project: Path) -> None:
    done = daemon.tfctl("submit", "--follow", cwd=project)
    assert done.stdout.splitlines()[0] == "submitted job 1 (shapes)"
    assert "frozen 0512" in done.stdout
    assert done.stdout.splitlines()[-1] == "job 1 (shapes) succeeded: loss 0.2"
    assert daemon.tfctl("submit", "--follow", "--", "false", check=False).returncode == 1


def test_a_failing_script_is_explained(daemon: RealDaemon, project: Path) -> None:
    (project / "train.py").write_text("def boom():\n    raise ValueError('the answer is 42')\nboom()\n")
    daemon.tfctl("submit", "--set", "recovery.max_retries=0", cwd=project)
    daemon.tfctl("wait", "@", check=False)
    why = daemon.tfctl("why", "@").stdout
    assert "failed (user error): rank 0 ValueError: the answer is 42" in why
    assert "in boom" in why
    assert "what to do: mend it, then: tfctl retry 1 --code current" in why
    script = "for i in $(seq 40); do echo line $i; done; printf '\\033[31mred'; exit 3"
    daemon.tfctl("submit", "--", "sh", "-c", script)
    daemon.tfctl("wait", "@", check=False)
    first, said, *lines, done, todo = daemon.tfctl("why", "@").stdout.splitlines()
    assert first == "job 2 (sh) failed (user error): ended with 3"
    assert (said, lines[-2:], len(lines)) == ("the last it wrote:", ["  line 40", "  red"], 20)
    assert done.endswith("a command is not run twice unless recovery.max_retries allows it")
    assert todo == "what to do: mend it, then: tfctl retry 2", "it runs in place: there is no other code"


def test_retry_takes_the_old_code_or_the_new(daemon: RealDaemon, project: Path) -> None:
    (project / "train.py").write_text("import sys; sys.exit(1)\n")
    daemon.tfctl("submit", "--set", "recovery.max_retries=0", cwd=project)
    daemon.tfctl("wait", "1", check=False)
    (project / "train.py").write_text("import os; print(os.environ['LR'])\n")
    daemon.tfctl("retry", "1", "--env", "LR=0.3", "--code", "current")
    assert daemon.tfctl("wait", "2").returncode == 0
    assert daemon.tfctl("logs", "2").stdout == "0.3\n"
    daemon.tfctl("retry", "1")
    assert daemon.tfctl("wait", "3", check=False).returncode == 1


def test_a_closed_pipe_is_not_an_error(daemon: RealDaemon) -> None:
    for _ in range(3):
        daemon.command("true", hold=True)
    env = os.environ | {"TRAINFORGE_SOCKET": str(daemon.socket), "PATH": own_path()}
    line = f"{sys.executable} -m tfctl events | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "0"


def test_events_and_gpus_as_json(daemon: RealDaemon) -> None:
    daemon.command("true", hold=True)
    events = json.loads(daemon.tfctl("events", "--json").stdout)["events"]
    assert events[-1]["type"] == "job_submitted"
    gpus = json.loads(daemon.tfctl("gpus", "--json").stdout)["gpus"]
    assert [(gpu["index"], gpu["state"]) for gpu in gpus] == [(0, "free"), (1, "free")]
    assert all(gpu["simulated"] for gpu in gpus)


def test_a_drained_gpu_is_given_out_no_more_until_it_is_undrained(daemon: RealDaemon) -> None:
    said = daemon.tfctl("drain", "1", "--reason", "a loud fan").stdout
    assert re.fullmatch(r"drained GPU 1 \(\S+\)\n", said)
    job = daemon.command("true", resources={"gpu": 2}).id
    assert "waits for 2 GPUs: 1 free; GPU 1 is kept back: a loud fan" in daemon.tfctl("why", str(job)).stdout
    uuid = said.split("(")[1].rstrip(")\n")
    daemon.tfctl("undrain", uuid)
    assert daemon.wait_for(job).exit_code == 0
    for word, problem in [("7", "no GPU is 7"), (uuid[:3], "more than one GPU begins with")]:
        refused = daemon.tfctl("drain", word, check=False)
        assert refused.returncode == 2
        assert problem in refused.stderr


def test_init_writes_a_project_that_runs_and_keeps_what_is_there(daemon: RealDaemon) -> None:
    folder = daemon.folder / "mine"
    daemon.tfctl("init", "mine", "--template", "blank", "--name", "first")
    script = folder / "train.py"
    script.write_text("print('mine')\n")
    (folder / "trainforge.yaml").write_text("# kept\n" + (folder / "trainforge.yaml").read_text())
    daemon.tfctl("init", "mine", "--template", "blank", "--name", "second")
    assert script.read_text() == "print('mine')\n"
    assert (folder / "trainforge.yaml").read_text().startswith("# kept\nproject:\n  name: second\n")
    daemon.tfctl("submit", "mine", "--gpu", "0")
    assert daemon.tfctl("wait", "@").stdout == "job 1 (second) succeeded\n"
    daemon.tfctl("init", "mine", "--template", "blank", "--force")
    assert "trainforge" in script.read_text()


def test_a_daemon_starts_itself_for_a_user(tmp_path: Path) -> None:
    env = {
        "PATH": own_path(), "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_RUNTIME_DIR": str(tmp_path), "TMPDIR": str(tmp_path),
    }  # fmt: skip

    def tfctl(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tfctl", *words],
            env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    if Path("/run/trainforge/trainforged.sock").exists():
        pytest.skip("a daemon for the machine runs here")
    assert tfctl("status").returncode == 3, "nothing to do: no daemon is started"
    assert tfctl("submit", "--no-autostart", "--", "true").returncode == 3
    first = tfctl("submit", "--", "sh", "-c", "echo started")
    assert first.stdout == "submitted job 1 (sh)\n"
    assert "started a daemon" in first.stderr
    try:
        assert tfctl("wait", "1").returncode == 0
        assert tfctl("logs", "1").stdout == "started\n"
        env["XDG_RUNTIME_DIR"] = str(tmp_path / "nowhere")  # as in cron: the state folder tells
        assert tfctl("submit", "--hold", "--", "true").stderr.count("started a daemon") == 0
        assert tfctl("daemon", "stop").returncode == 0
        again = tfctl("status")
        assert again.returncode == 0, "a held job is unfinished: the daemon is started again"
        assert "started a daemon" in again.stderr
    finally:
        tfctl("daemon", "stop")


def test_what_a_running_job_waits_for_cannot_change_until_it_is_held(daemon: RealDaemon) -> None:
    running = daemon.command("sleep", "600", resources={"gpu": 1}).id
    daemon.wait_for(running, JobState.RUNNING)
    other = daemon.command("true", hold=True).id
    refused = daemon.tfctl("update", str(running), "--set", f"schedule.after=[{other}]", check=False)
    assert refused.returncode != 0
    assert (
        f"schedule.after cannot change while job {running} is running: `tfctl hold {running}` first"
        in refused.stderr
    )
    unknown = daemon.tfctl("update", str(running), "--set", "priority=5", check=False)
    assert unknown.stderr == f"tfctl: job {running}: priority: unknown key; did you mean schedule.priority?\n"
    changed = daemon.tfctl("update", str(running), "--priority", "5").stdout
    assert changed == f"job {running} (test) has schedule.priority=5; it runs (attempt 1)\n"
    nothing = daemon.tfctl("update", str(running), check=False)
    assert (nothing.returncode, "nothing to change: --priority N" in nothing.stderr) == (2, True)
    daemon.tfctl("hold", str(running))
    daemon.wait_for(running, JobState.HELD)
    daemon.tfctl("update", str(running), "--set", f"schedule.after=[{other}]")
    daemon.tfctl("release", str(running))
    assert f"waits for job {other} to succeed" in daemon.tfctl("why", str(running)).stdout
    daemon.tfctl("cancel", str(other))
    assert daemon.wait_for(running).reason == "dependency"
    said = daemon.tfctl("why", str(running)).stdout
    assert f"job {other}, which it waited for, was cancelled" in said


def test_a_retry_waits_for_what_it_is_told_to_and_no_more_for_what_is_over(daemon: RealDaemon) -> None:
    first, second = daemon.command("false").id, daemon.command("true", hold=True).id
    daemon.wait_for(first)
    refused = daemon.tfctl("submit", "--after", f"{first},{second}", "--", "true", check=False)
    assert f"job {first}" in refused.stderr
    after = daemon.tfctl("submit", "--after", f"{second},{second}", "--", "true").stdout.split()[2]
    assert f"after       job {second}\n" in daemon.tfctl("status", after).stdout
    daemon.tfctl("cancel", str(second))
    assert daemon.wait_for(int(after)).reason == "dependency"
    third = daemon.command("true", hold=True).id
    again = daemon.tfctl("retry", after, "--set", f"schedule.after=[{third}]").stdout.split()[2]
    assert f"waits for job {third} to succeed" in daemon.tfctl("why", again).stdout
    free = daemon.tfctl("retry", after).stdout.split()[2]
    assert daemon.wait_for(int(free)).exit_code == 0


def test_a_job_may_wait_for_an_end_or_a_failure(daemon: RealDaemon) -> None:
    held = daemon.command("true", hold=True).id
    waits = (("--afterany", "end"), ("--afternotok", "fail"), ("--afterok", "succeed"))
    jobs = []
    for flag, end in waits:
        jobs.append(daemon.tfctl("submit", flag, str(held), "--", "true").stdout.split()[2])
        assert f"waits for job {held} to {end}\n" in daemon.tfctl("why", jobs[-1]).stdout
    assert f"afternotok  job {held}\n" in daemon.tfctl("status", jobs[1]).stdout
    daemon.tfctl("cancel", str(held))
    assert [daemon.wait_for(int(job)).state for job in jobs] == ["succeeded", "succeeded", "failed"]
    needless = daemon.tfctl("submit", "--hold", "--afternotok", jobs[2], "--", "true").stdout.split()[2]
    refused = daemon.tfctl("update", needless, "--set", f"schedule.afternotok=[{jobs[0]}]", check=False)
    assert f"job {jobs[0]} succeeded; it will never fail" in refused.stderr
    retried = daemon.tfctl("retry", jobs[2]).stdout.split()[2]
    assert daemon.wait_for(int(retried)).state == "succeeded"


def test_jobs_of_one_name_are_told_apart_by_what_was_set_for_them(daemon: RealDaemon) -> None:
    sweep = ("--sweep", "LR=0.1,0.2", "--sweep", "schedule.priority=-1,0")
    daemon.tfctl("submit", "--name", "swept", "--env", "EPOCHS=9", *sweep, "--hold", "--", "true")
    alone = daemon.tfctl("submit", "--env", "LR=a b", "--hold", "--", "true").stdout.split()[2]
    with daemon.client() as client:
        swept = {job.label for job in client.jobs(name="swept").jobs}
        assert swept == {f"LR={lr} schedule.priority={p}" for lr in ("0.1", "0.2") for p in (-1, 0)}
        assert client.job(int(alone)).label == "LR='a b'"
        daemon.tfctl("update", alone, "--set", "environment.env.LR=3")
        daemon.tfctl("release", alone)
        daemon.wait_for(int(alone))
        assert client.job(int(alone)).label == "LR=3"
        again = daemon.tfctl("retry", alone, "--env", "SEED=2").stdout.split()[2]
        assert client.job(int(again)).label == "LR=3 SEED=2"
    (line,) = (line for line in daemon.tfctl("status").stdout.splitlines() if line.split()[0] == alone)
    assert line.endswith("  LR=3")


def test_what_is_not_there_is_told_with_what_there_is(daemon: RealDaemon) -> None:
    silent = daemon.command("true").id
    daemon.wait_for(silent)
    assert daemon.tfctl("logs", str(silent)).stderr == f"note: job {silent} has no output\n"
    held = daemon.command("true", hold=True).id
    assert daemon.tfctl("logs", str(held)).stderr == f"note: job {held} has no output yet\n"
    gone = daemon.tfctl("logs", str(silent), "--attempt", "7", check=False)
    assert gone.stderr == f"tfctl: job {silent} has no attempt 7; its newest is 1\n"
    state = daemon.tfctl("status", "--state", "runing", check=False)
    assert state.stderr.endswith("found 'runing'; did you mean running?\n")
    assert daemon.tfctl("metrics", str(silent), check=False).stderr.startswith(
        "tfctl: no series has been reported: trainforge.report(loss=…) makes one"
    )


def test_a_queue_that_is_longer_than_the_screen_is_counted(daemon: RealDaemon) -> None:
    job = daemon.command("sleep", "600", name="runs")
    daemon.wait_for(job.id, JobState.RUNNING)
    daemon.tfctl(
        "submit", "--name", "many", "--hold", "--sweep", f"X={','.join(map(str, range(60)))}", "--", "true"
    )
    shown = on_a_terminal(daemon, "status", columns=80)
    assert any(" runs " in line for line in shown)
    waiting = sum(" many X=" in line for line in shown)
    assert 5 <= waiting < 60
    assert f"… and {60 - waiting} more wait; --state queued, or held, lists all" in shown
    assert len(daemon.tfctl("status", "--state", "held").stdout.splitlines()) == 61


def test_several_jobs_are_a_table_and_one_is_shown_whole(daemon: RealDaemon) -> None:
    first, second = (daemon.command("true", name=name).id for name in ("one", "two"))
    for job in (first, second):
        daemon.wait_for(job)
    several = daemon.tfctl("list", f"{first}-{second}").stdout.splitlines()
    assert [line.split()[:2] for line in several] == [
        ["JOB", "NAME"],
        [str(first), "one"],
        [str(second), "two"],
    ]
    whole = daemon.tfctl("status", "--whole", str(first), str(second)).stdout
    assert whole.count("  files ") == 2
    with daemon.client() as client:
        folder = client.job(first).workdir
    assert f"  in place    {folder}, " in daemon.tfctl("show", str(first)).stdout


def test_following_a_job_that_waits_says_why(daemon: RealDaemon) -> None:
    job = daemon.command("echo", "here", hold=True).id
    env = os.environ | {"TRAINFORGE_SOCKET": str(daemon.socket), "PATH": own_path()}
    with subprocess.Popen(
        [sys.executable, "-m", "tfctl", "logs", str(job), "-f"],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as following:  # fmt: skip
        assert following.stderr is not None
        said = following.stderr.readline()
        daemon.tfctl("release", str(job))
        out, _ = following.communicate(timeout=60)
    assert said.startswith(f"job {job} (test) is held")
    assert (following.returncode, out) == (0, "here\n")


def test_a_smaller_machine_has_no_less_than_nothing_free(start_daemon: Callable[..., RealDaemon]) -> None:
    large = start_daemon(2)
    job = large.command("sleep", "600", resources={"gpu": 1, "cpu": 12})
    large.wait_for(job.id, JobState.RUNNING)
    large.stop()
    small = RealDaemon(large.folder, 1).start()
    try:
        with small.client() as client:
            status = client.status()
            assert (status.cpu_free, status.cpu_total) == (0, 8)
    finally:
        small.close()
