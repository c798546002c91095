"""The power is cut, everything is killed at once, or one process dies at a named point."""

from __future__ import annotations

import functools
import signal
import uuid
from pathlib import Path

from tests.daemon.real import DEADLINE, wait_until
from tests.torture.box import BoxedDaemon
from tests.torture.points import DAEMON, FILE, HARMLESS, RANK, REACHED, SHIM
from tests.torture.scene import Kinds, Scene, send

PATIENCE = 3.0  # seconds that a point is waited for: in a busy queue each is passed all the time


def kinds(scene: Scene) -> Kinds:
    """Of what ends everything at once."""
    kinds: Kinds = {"kill -9 of everything at once": functools.partial(_kill_everything, scene)}
    daemon = scene.daemon
    if isinstance(daemon, BoxedDaemon):
        kinds["power cut"] = functools.partial(_cut_power, scene, daemon)
        kinds |= {
            f"power cut: {point}": functools.partial(_cut_power_at, scene, daemon, point)
            for point in (*DAEMON, *SHIM, *RANK)
        }
    return kinds


def points(scene: Scene) -> Kinds:
    """Of one process that dies just there."""
    return {
        f"kill -9 at a point: {point}": functools.partial(_kill_at, scene, point)
        for point in (*DAEMON, *SHIM, *RANK)
    }


def _kill_everything(scene: Scene) -> bool:
    scene.daemon.kill()
    scene.mark_unended()
    for pid in scene.daemon.processes():
        send(pid, signal.SIGKILL)
    scene.daemon.start()
    return True


def _cut_power(scene: Scene, daemon: BoxedDaemon) -> bool:
    daemon.cut_power()
    scene.mark_unended()
    daemon.boot()
    daemon.start()
    return True


def _cut_power_at(scene: Scene, daemon: BoxedDaemon, point: str) -> bool:
    if _wait_for(scene, point, "stop") is None:
        return False
    return _cut_power(scene, daemon)


def _kill_at(scene: Scene, point: str) -> bool:
    who = _wait_for(scene, point, "kill")
    if who is None:
        return False
    if point in DAEMON:
        assert scene.daemon.process is not None
        scene.daemon.process.wait(DEADLINE)
        scene.daemon.start()
    elif point not in HARMLESS:
        scene.mark(int(who), "shim" if point in SHIM else "rank")
    return True


def _wait_for(scene: Scene, point: str, what: str) -> str | None:
    """Who has reached the point and is dead, or stopped there; None if nobody comes by in time."""
    folder = scene.daemon.folder
    wanted, reached, only = folder / FILE, folder / REACHED, folder / f"only-{uuid.uuid4().hex}"
    reached.unlink(missing_ok=True)
    only.touch()
    _write(wanted, f"{point} {what} {only.name}")
    try:
        wait_until(reached.exists, point, PATIENCE)
    except AssertionError:
        try:
            only.unlink()
        except FileNotFoundError:  # somebody is there just now
            wait_until(reached.exists, point)
        else:
            return None
    finally:
        wanted.unlink()
    return reached.read_text().split(" ", 1)[1]


def _write(path: Path, text: str) -> None:
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)
