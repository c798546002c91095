"""The state folder of an older version, as that version wrote it (`older/*.sql`, dumped): a job that
succeeded and reported, one that failed, one that is held, and one that waits for it."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.real import RealDaemon
from trainforge.states import JobState

OLDER = Path(__file__).with_name("older")
SHELL = '{"env":{},"python":null,"cwd":null,"root":null}'  # the content that its submissions name
TRAINED, FAILED, HELD, AFTER = 1, 2, 3, 4


def _restore(name: str, state_dir: Path) -> None:
    connection = sqlite3.connect(state_dir / f"{name}.db")
    connection.executescript((OLDER / f"{name}.sql").read_text())
    connection.close()


@pytest.fixture
def upgraded() -> Iterator[RealDaemon]:
    """This version's daemon on that folder."""
    folder = Path(tempfile.mkdtemp(prefix="tf-"))
    daemon = RealDaemon(folder, 2)
    try:
        daemon.state_dir.mkdir()
        for name in ("trainforge", "metrics"):
            _restore(name, daemon.state_dir)
        sha256 = hashlib.sha256(SHELL.encode()).hexdigest()
        content = daemon.state_dir / "files" / sha256[:2] / sha256
        content.parent.mkdir(parents=True)
        content.write_text(SHELL)
        yield daemon.start()
    finally:
        daemon.close()
        shutil.rmtree(folder, ignore_errors=True)


def test_all_of_it_is_there_and_goes_on_and_a_backup_was_made(upgraded: RealDaemon) -> None:
    with upgraded.client() as client:
        trained, failed = client.job(TRAINED), client.job(FAILED)
    assert (trained.state, trained.exit_code, trained.attempt) == (JobState.SUCCEEDED, 0, 1)
    assert (failed.state, failed.exit_code) == (JobState.FAILED, 3)
    points = upgraded.tfctl("metrics", str(TRAINED), "--csv").stdout
    assert len(points.splitlines()) == 1 + 5
    assert "0.3333333333333333" in points
    assert "attempt 1 started" in upgraded.tfctl("events", str(TRAINED)).stdout
    assert (upgraded.state_dir / "metrics.db.v1.bak").exists()

    upgraded.tfctl("release", str(HELD))
    assert upgraded.wait_for(AFTER).state is JobState.SUCCEEDED
    assert upgraded.wait_for(upgraded.command("true").id).id == AFTER + 1
    upgraded.stop()
    upgraded.start()
    with upgraded.client() as client:
        assert client.job(TRAINED).state is JobState.SUCCEEDED
