"""A daemon killed at each named point of an attempt's life: one attempt, and its true exit status."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shell.attempts import Supervised, command
from tests.support import until
from trainforged.core import messages as m

# In the order in which they are reached. Before the first of `SPAWNED` no shim can exist.
UNSPAWNED = ("folder made", "prepared", "order written")
SPAWNED = ("spawned", "ready", "ended", "end known", "release begun", "released")

QUICK = "open('{runs}', 'a').write('ran\\n'); raise SystemExit(5)"
SLOW = "import time; open('{runs}', 'a').write('ran\\n'); time.sleep(0.5); raise SystemExit(5)"


class History:
    """A state folder through several daemons."""

    def __init__(self, tmp_path: Path, source: str) -> None:
        self.state = tmp_path / "state"
        self.runs = tmp_path / "runs"
        self.source = source.format(runs=self.runs)

    def daemon_dies_at(self, point: str, order: str = "start") -> None:
        died = subprocess.run(
            [sys.executable, "-m", "tests.shell.execution.dying", str(self.state), point, order, self.source],
            timeout=60,
        )
        assert died.returncode == -signal.SIGKILL, f"it never came to {point!r}"

    def daemon(self) -> Supervised:
        supervised = Supervised(self.state)
        supervised.launches[1] = command(self.source)
        return supervised

    @property
    def times_run(self) -> int:
        return self.runs.read_text().count("ran") if self.runs.exists() else 0


@pytest.mark.parametrize("point", UNSPAWNED + SPAWNED)
async def test_the_start_is_ordered_again(tmp_path: Path, point: str) -> None:
    await start_again(History(tmp_path, QUICK), point)


@pytest.mark.parametrize("point", ["spawned", "ready"])
async def test_the_start_is_ordered_again_while_it_runs(tmp_path: Path, point: str) -> None:
    await start_again(History(tmp_path, SLOW), point)


async def start_again(history: History, point: str) -> None:
    history.daemon_dies_at(point)
    daemon = history.daemon()
    daemon.start(1)
    end = await daemon.end(1)
    assert (end.exit_code, end.lost) == (5, False)
    assert history.times_run == 1
    daemon.release(1)
    await daemon.told(m.LeaseReleased, 1)
    assert daemon.left(1) == []
    await daemon.close()


@pytest.mark.parametrize("point", ["ready", "end known", "released"])
async def test_the_attempt_is_adopted(tmp_path: Path, point: str) -> None:
    history = History(tmp_path, SLOW)
    history.daemon_dies_at(point)
    daemon = history.daemon()
    daemon.adopt(1)
    end = await daemon.end(1)
    assert (end.exit_code, end.lost) == (5, False)
    assert history.times_run == 1
    await daemon.close()


async def test_what_was_not_spawned_is_lost_to_one_that_only_adopts(tmp_path: Path) -> None:
    history = History(tmp_path, SLOW)
    history.daemon_dies_at("order written")
    daemon = history.daemon()
    daemon.adopt(1)
    assert (await daemon.end(1)).lost
    assert history.times_run == 0
    await daemon.close()


async def test_what_is_lost_to_one_daemon_is_not_started_by_a_late_shim(tmp_path: Path) -> None:
    """Spawned just before the kill, the shim may or may not have come to its lock when we look."""
    history = History(tmp_path, QUICK)
    history.daemon_dies_at("spawned")
    daemon = history.daemon()
    daemon.adopt(1)
    end = await daemon.end(1)
    await until(lambda: not daemon.left(1))
    assert history.times_run == (0 if end.lost else 1)
    assert end.lost or end.exit_code == 5
    await daemon.close()


async def test_one_daemon_after_another_is_killed(tmp_path: Path) -> None:
    history = History(tmp_path, SLOW)
    for point in (*UNSPAWNED, "spawned"):
        history.daemon_dies_at(point)
    for point in ("end known", "release begun", "released"):
        history.daemon_dies_at(point, "adopt")
    daemon = history.daemon()
    daemon.adopt(1)
    end = await daemon.end(1)
    assert (end.exit_code, end.lost) == (5, False)
    assert history.times_run == 1
    await daemon.close()
