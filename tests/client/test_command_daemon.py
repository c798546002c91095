"""Commands against real daemons: which one they reach, and what they say of several jobs or attempts."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon.real import RealDaemon, own_path
from trainforge.states import JobState


@pytest.fixture
def start() -> Iterator[Callable[..., RealDaemon]]:
    """Starts a daemon, and in the end ends it with all that it started."""
    daemons: list[RealDaemon] = []

    def start(folder: Path | None = None, socket: str = "d.sock") -> RealDaemon:
        daemons.append(RealDaemon(folder or Path(tempfile.mkdtemp(prefix="tf-")), 2))
        daemons[-1].socket = daemons[-1].folder / socket
        return daemons[-1].start()

    yield start
    for daemon in daemons:
        daemon.close()
        shutil.rmtree(daemon.folder, ignore_errors=True)


@pytest.fixture
def home() -> Iterator[Path]:
    """Of a user with folders of their own; short, since a socket's path has 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="tf-") as folder:
        Path(folder, "run").mkdir()
        yield Path(folder)


def shell(home: Path) -> dict[str, str]:
    return {
        "PATH": own_path(), "HOME": str(home), "XDG_STATE_HOME": str(home / "state"),
        "XDG_RUNTIME_DIR": str(home / "run"), "TMPDIR": str(home), "TRAINFORGE_SOCKET": "",
    }  # fmt: skip


@pytest.mark.skipif(
    Path("/run/trainforge/trainforged.sock").exists(), reason="a daemon for the machine runs here"
)
def test_what_is_meant_for_a_users_own_daemon_reaches_no_other(
    start: Callable[..., RealDaemon], home: Path
) -> None:
    """Another daemon listens below the temporary directory while the user's own is away."""
    other = start(socket=f"trainforge-{os.getuid()}/trainforged.sock")
    other.socket.parent.chmod(0o700)
    theirs = other.command("true", hold=True).id
    env = shell(home) | {"TMPDIR": str(other.folder)}

    def tfctl(*words: str, check: bool = True) -> tuple[int, str, str]:
        done = other.tfctl(*words, check=check, cwd=home, **env)
        return done.returncode, done.stdout, done.stderr

    try:
        assert tfctl("submit", "--hold", "--", "true")[1] == "submitted job 1 (true)\n"
        assert tfctl("daemon", "stop")[1] == "stopped the daemon\n"
        assert tfctl("daemon", "stop")[1] == "no daemon runs\n"
        code, _, said = tfctl("cancel", "1", "--no-autostart", check=False)
        assert (code, said.splitlines()[-1]) == (3, "tfctl: to start one: tfctl daemon start")
        code, out, said = tfctl("cancel", "1")
        assert out == "job 1 (true) was cancelled\n"
        assert said.startswith("note: started a daemon")
        assert f"{home}/state/trainforge: " in tfctl("doctor", check=False)[1]
        with other.client() as client:
            assert client.job(theirs).state is JobState.HELD
    finally:
        tfctl("daemon", "stop")


def test_a_daemon_started_over_unfinished_jobs_offers_the_machine_of_the_last_one(
    start: Callable[..., RealDaemon], home: Path
) -> None:
    """It was started by hand on made-up GPUs, and killed while a job waited."""
    daemon, env = start(home), shell(home)
    daemon.stop()
    shutil.rmtree(daemon.state_dir)
    daemon.state_dir, daemon.socket = home / "state/trainforge", home / "run/trainforge/trainforged.sock"
    daemon.start()
    held = daemon.tfctl("submit", "--hold", "--gpu", "2", "--", "true", **env)
    daemon.kill()
    try:
        again = daemon.tfctl("gpus", "--json", **env)
        assert "(--simulate-gpus 2 --web off, as the last one)" in again.stderr, (held, again)
        assert [gpu["state"] for gpu in json.loads(again.stdout)["gpus"]] == ["free", "free"]
        daemon.tfctl("cancel", "1", **env)
        daemon.tfctl("daemon", "stop", **env)  # nothing is left for it: the next one is as any other
        assert "as the last one" not in daemon.tfctl("daemon", "start", **env).stderr
    finally:
        daemon.tfctl("daemon", "stop", **env)


def test_doctor_shows_the_state_folder_of_the_daemon_it_found(
    start: Callable[..., RealDaemon], home: Path
) -> None:
    daemon = start()
    found = daemon.tfctl(
        "doctor", check=False, **(shell(home) | {"TRAINFORGE_SOCKET": str(daemon.socket)})
    ).stdout
    assert f"{daemon.state_dir}: " in found
    assert str(home) not in found


def test_several_jobs_and_attempts(start: Callable[..., RealDaemon]) -> None:
    daemon = start()
    fails = "import os, sys; print('try', os.environ['TRAINFORGE_ATTEMPT']); sys.exit(3)"
    (daemon.folder / "fails.py").write_text(fails)
    done = daemon.tfctl(
        "submit", "fails.py", "--sweep", "A=1,2", "--gpu", "0", "--set", "recovery.max_retries=1"
    )
    assert done.stdout == "submitted job 1 (fails): A=1\nsubmitted job 2 (fails): A=2\n"
    assert daemon.tfctl("wait", "1-2", check=False).returncode == 1
    log = daemon.tfctl("logs", "1", "--attempt", "all").stdout
    assert log == "==> attempt 1 <==\ntry 1\n==> attempt 2 <==\ntry 2\n"
    again = daemon.tfctl("retry", "1", "2", "77", check=False)
    assert again.stdout == "submitted job 3 (fails), job 1 again\nsubmitted job 4 (fails), job 2 again\n"
    assert (again.returncode, again.stderr.count("77")) == (5, 1)
    daemon.tfctl("wait", "3-4", check=False)
    assert daemon.tfctl("cancel", "3", check=False).stderr == "tfctl: job 3 has ended: failed\n"
