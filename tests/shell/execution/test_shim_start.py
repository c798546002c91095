"""The shim: what a command finds when it starts, and what is said when it cannot."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.shell.attempts import ENV, Shimmed, alive, python
from tests.support import wait_for
from trainforge.protocol import TOKEN
from trainforged.core.messages import AttemptEnd
from trainforged.execution import durable
from trainforged.execution.starting import spawn

Make = Callable[..., Shimmed]

LOOK_AROUND = """
    import json, os
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    names = ("SigBlk", "SigIgn", "SigCgt", "Umask")
    links = {fd: os.path.basename(os.readlink(f"/proc/self/fd/{fd}")) for fd in os.listdir("/proc/self/fd") if
             os.path.exists(f"/proc/self/fd/{fd}") or int(fd) < 3}
    print(json.dumps({"env": dict(os.environ), "cwd": os.getcwd(), "fds": links,
                      "leader": os.getsid(0) == os.getpid(), "oom": open("/proc/self/oom_score_adj").read(),
                      "status": {name: status[name].strip() for name in names}}))
"""


def test_a_command_runs_and_its_status_is_kept(shimmed: Make) -> None:
    attempt = shimmed(python("import sys; print('hello'); print('oops', file=sys.stderr); sys.exit(7)"))
    end = attempt.run()
    assert (end.exit_code, end.signal, end.start_error) == (7, None, None)
    assert not end.stopped
    assert not end.lost
    assert attempt.text() == "hello\noops\n"
    assert end.started_at is not None
    assert end.started_at <= end.ended_at
    assert attempt.text("shim.log") == ""
    names = {"launch.json", "lock", "shim.json", "exit.json", "shim.log", "output.log"}
    assert set(os.listdir(attempt.path)) == names
    assert all(attempt.path.joinpath(name).stat().st_mode & 0o077 == 0 for name in names)


def test_jobs_leave_some_of_their_users_processes_to_the_daemon(shimmed: Make) -> None:
    """A job that forks without end does not keep the daemon from its threads, nor anybody from signing in."""
    before = resource.getrlimit(resource.RLIMIT_NPROC)
    finite = before[1] if before[1] != resource.RLIM_INFINITY else 40_000
    resource.setrlimit(resource.RLIMIT_NPROC, (finite, before[1]))
    try:
        attempt = shimmed(python("import resource; print(*resource.getrlimit(resource.RLIMIT_NPROC))"))
        attempt.run()
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, before)
    share = str(int(finite * 0.75))
    assert attempt.text().split() == [share, share]


def test_it_runs_clean_of_the_daemon(shimmed: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    leak = os.open("/dev/zero", os.O_RDONLY)
    os.set_inheritable(leak, True)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    umask = os.umask(0o077)
    try:
        attempt = shimmed(python(LOOK_AROUND))
        attempt.run()
    finally:
        os.umask(umask)
        signal.signal(signal.SIGHUP, before)
        os.close(leak)
    found = json.loads(attempt.text())
    assert found["cwd"] == str(attempt.path)
    assert found["leader"], "in a session of its own"
    assert found["fds"]["0"] == "null"
    assert set(found["fds"]) <= {"0", "1", "2", "3"}, "3 is the listing's own"
    assert "zero" not in found["fds"].values()
    assert int(found["status"]["SigBlk"], 16) == 0
    ignored = {number for number in range(1, 65) if int(found["status"]["SigIgn"], 16) >> (number - 1) & 1}
    assert ignored <= {signal.SIGPIPE, signal.SIGXFSZ, 32, 33}, (
        "Python's own, and two that are the C library's"
    )
    assert found["status"]["Umask"] == "0022"
    assert int(found["oom"]) >= 0


RUNS_ON = """
    import os
    if (child := os.fork()) != 0:
        os.waitpid(child, 0)
    os.write(1, b"%d\\n" % next(iter(os.sched_getaffinity(0))))
"""


def test_it_and_all_that_it_starts_run_on_its_cores(shimmed: Make) -> None:
    last = max(os.sched_getaffinity(0))
    attempt = shimmed(python(RUNS_ON), cores=(last,))
    attempt.run()
    assert attempt.text() == f"{last}\n{last}\n"


def test_cores_that_are_not_there_are_no_reason_not_to_start(shimmed: Make) -> None:
    attempt = shimmed(python("print('runs')"), cores=(4000,))
    assert attempt.run().exit_code == 0
    assert attempt.text() == "runs\n"
    assert "the cores [4000] cannot be kept to: " in attempt.text("shim.log")


def test_the_environment_is_the_shells_less_some_under_ours(shimmed: Make, tmp_path: Path) -> None:
    shell = tmp_path / "shell.json"
    odd = 'tabs\t, "quotes", ünïcode, \udcff\n'  # the last but one is a byte that is no UTF-8
    shell.write_text(json.dumps({"env": {**ENV, "A": "shell", "B": "shell", "ODD": odd, "RANK": "3"}}))
    attempt = shimmed(python(LOOK_AROUND), env_file=str(shell), unset=("RANK", "MISSING"), env={"B": "ours"})
    attempt.run()
    env = json.loads(attempt.text())["env"]  # which the command wrote as ASCII
    assert (env["A"], env["B"], env["ODD"]) == ("shell", "ours", odd)
    assert "RANK" not in env
    assert env[TOKEN] == attempt.token


def test_a_command_is_found_along_the_jobs_path_and_in_its_folder(shimmed: Make, tmp_path: Path) -> None:
    script = tmp_path / "bin" / "greet"
    script.parent.mkdir()
    script.write_text("echo hello from $1\n")  # without a first line, as a shell would take it
    script.chmod(0o755)
    by_path = shimmed(("greet", "PATH"), env={"PATH": f"{tmp_path}/nowhere:{script.parent}:/bin"})
    assert by_path.run().exit_code == 0
    assert by_path.text() == "hello from PATH\n"
    by_folder = shimmed(("./greet", "here"), cwd=str(script.parent))
    assert by_folder.run().exit_code == 0
    assert by_folder.text() == "hello from here\n"


@pytest.mark.parametrize(
    ("argv", "order", "words"),
    [
        (("no-such-command",), {}, "no-such-command: command not found in the job's PATH"),
        (("./missing",), {"cwd": "/tmp"}, "./missing: no such file (seen from /tmp)"),
        (("/etc/passwd",), {}, "/etc/passwd: not allowed to execute it (chmod +x?)"),
        (("true",), {"cwd": "/no/such/folder"}, "the working directory /no/such/folder cannot be entered"),
        (("true", "a\0b"), {}, "true cannot be started: embedded null byte"),
    ],
)
def test_what_cannot_be_started_is_said_in_a_sentence(
    shimmed: Make, argv: tuple[str, ...], order: dict[str, str], words: str
) -> None:
    end = shimmed(argv, **order).run()
    assert end.start_error is not None
    assert end.start_error.startswith(words)
    assert end.hopeless
    assert (end.started_at, end.exit_code, end.signal) == (None, None, None)


def test_an_order_that_cannot_be_read_is_a_start_error(shimmed: Make) -> None:
    attempt = shimmed(("true",), env_file="/no/such/file")
    assert "/no/such/file" in (attempt.run().start_error or "")


def test_one_gpu_one_holder_on_the_whole_machine(shimmed: Make) -> None:
    holder = shimmed(("sleep", "60"), gpus=("GPU-a", "GPU-b")).start()
    beside = shimmed(("true",), gpus=("GPU-c",))
    assert beside.run().exit_code == 0
    second = shimmed(("true",), gpus=("GPU-c", "GPU-b"))
    end = second.run()
    assert end.start_error is not None
    assert end.start_error.startswith(f"GPU GPU-b is held by process {holder.pid}, ")
    assert not end.hopeless
    assert shimmed(("true",), gpus=("GPU-b",), lock_prefix="made-up-").run().exit_code == 0
    holder.signal(signal.SIGKILL).wait()
    assert shimmed(("true",), gpus=("GPU-c", "GPU-b")).run().exit_code == 0, "a dead holder holds nothing"


def test_of_two_shims_one_runs_the_command(shimmed: Make) -> None:
    attempt = shimmed(python("print('once'); import time; time.sleep(60)"))
    attempt.start().says("once")
    attempt.start().wait()
    assert attempt.folder.end() is None
    assert attempt.left(), "the first goes on"
    os.kill(attempt.shims[0].pid, signal.SIGUSR1)
    wait_for(attempt.folder.end)
    assert attempt.text() == "once\n"


def test_many_shims_at_once_run_the_command_once(shimmed: Make) -> None:
    attempt = shimmed(python("print('once')"))
    shims = [spawn.spawn(attempt.path, attempt.token) for _ in range(5)]
    attempt.shims += shims
    for shim in shims:
        os.waitpid(shim.pid, 0)
    end = attempt.folder.end()
    assert end is not None
    assert end.exit_code == 0
    assert attempt.text() == "once\n"


@pytest.mark.parametrize("before", ["exit.json", "shim.json"])
def test_an_attempt_that_may_have_run_is_not_run_again(shimmed: Make, before: str) -> None:
    attempt = shimmed(python("print('again')"))
    text = msgspec.json.encode(AttemptEnd(ended_at=1.0, lost=True))
    durable.write(f"{attempt.path}/{before}", text)
    attempt.start().wait()
    assert not (attempt.path / "output.log").exists()
    assert (attempt.path / before).read_bytes() == text


def test_the_command_dies_with_its_shim(shimmed: Make) -> None:
    attempt = shimmed(python("import os, time; print(os.getpid(), 'runs'); time.sleep(60)"))
    attempt.start().says("runs")
    attempt.signal(signal.SIGKILL).wait()
    pid = int(attempt.text().split()[0])
    wait_for(lambda: not alive(pid))
    assert attempt.folder.end() is None


def test_the_shim_is_small_and_loads_little(shimmed: Make) -> None:
    attempt = shimmed(("sleep", "60")).start()
    status = Path(f"/proc/{attempt.pid}/status").read_text()
    kib = int(status.split("VmRSS:")[1].split()[0])
    assert kib <= 12 * 1024
    assert status.split("Threads:")[1].split()[0] == "1"
    attempt.signal(signal.SIGUSR1).wait()
    source = f"import sys; sys.path.append({str(Path(spawn.__file__).parents[3])!r})\n"
    source += "import trainforged.execution.shim.run\nprint(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-I", "-S", "-c", source], text=True).split()
    known = {*sys.stdlib_module_names, "__main__", "trainforged"}
    assert {name for name in loaded if name.split(".")[0] not in known} == set()
    slow = {"re", "enum", "collections", "json", "socket", "signal", "typing", "subprocess", "asyncio"}
    assert slow.isdisjoint(loaded)
