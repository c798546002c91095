"""Why attempts end, each from real evidence, and what follows: the rows of docs/recovery.md."""

from __future__ import annotations

import venv

from tests.daemon.real import RealDaemon
from trainforge.states import JobState


def test_a_launcher_without_torch_is_the_users_mistake_at_once(daemon: RealDaemon) -> None:
    venv.create(daemon.folder / "bare", symlinks=True)
    (daemon.folder / "train.py").write_text("")
    python = daemon.folder / "bare" / "bin" / "python"
    daemon.tfctl("submit", "train.py", "--gpu", "2", "--set", f"environment.python={python}")
    ended = daemon.wait_for(1)
    assert (ended.state, ended.attempt, ended.reason) == (JobState.FAILED, 1, "user_error")
    said = daemon.tfctl("why", "1").stdout
    assert "ended with 1: ModuleNotFoundError: No module named 'torch'" in said
