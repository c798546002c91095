"""What is done to a daemon and its jobs, at random moments and at named points, by one seed."""

from __future__ import annotations

import contextlib
import shutil
import signal

from tests.daemon.real import wait_until
from tests.torture import attempts, people, power
from tests.torture.scene import Kinds, Scene, send
from trainforge.client.client import ApiError, NoDaemon
from trainforged.execution import processes

READER = b"trainforged.devices.nvml_reader"


class Faults:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.done: dict[str, int] = {}
        families = (_daemon(scene), attempts.kinds(scene), power.points(scene), power.kinds(scene),
                    people.kinds(scene), _machine(scene))  # fmt: skip
        self._families = [family for family in families if family]

    def commit(self) -> None:
        """One fault, of a kind that finds something to be done to."""
        chance = self._scene.chance
        while True:
            family = chance.choice(self._families)
            kind = chance.choice(list(family))
            if self._done(kind, family[kind]()):
                return

    def commit_one_of(self, kind: str) -> None:
        """That fault, if there is something to be done to, and if it can be done here."""
        for family in self._families:
            if kind in family:
                self._done(kind, family[kind]())

    def _done(self, kind: str, found: bool) -> bool:
        if found:
            self.done[kind] = self.done.get(kind, 0) + 1
        return found


def _daemon(scene: Scene) -> Kinds:
    daemon = scene.daemon

    def kill() -> bool:
        daemon.kill()
        daemon.start()
        return True

    def kill_twice() -> bool:
        daemon.kill()
        daemon.start(wait=False)
        daemon.kill()
        daemon.start()
        return True

    def restart() -> bool:
        daemon.stop()
        daemon.start()
        return True

    def remove_socket() -> bool:
        daemon.socket.unlink()
        wait_until(daemon.socket.exists, "the socket to be put back")
        return True

    return {
        "kill -9 of the daemon": kill,
        "kill -9 of the daemon twice in a row": kill_twice,
        "orderly restart": restart,
        "the socket removed": remove_socket,
    }


def _machine(scene: Scene) -> Kinds:
    """The disk, and the process that reads the GPUs."""
    kinds: Kinds = {}
    driver = scene.driver

    def kill_reader() -> bool:
        """None is there for a moment after the last kill."""
        for child in processes.all_stats().values():
            line = processes.read_proc(f"/proc/{child.pid}/cmdline")
            if child.parent == scene.daemon.pid and READER in line:
                return send(child.pid, signal.SIGKILL)
        return False

    def kill_reader_in_a_query() -> bool:
        assert driver is not None
        driver.forget_hang()
        one = scene.chance.randrange(len(scene.gpus))
        driver.say(*(gpu | {"hang": int(i == one)} for i, gpu in enumerate(map(dict, scene.gpus))))
        try:
            wait_until(lambda: driver.hung, "the reader to be in a query")
            return kill_reader()
        finally:
            driver.say(*scene.gpus)

    def fill_disk() -> bool:
        assert scene.disk is not None
        filler = scene.disk / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while shutil.disk_usage(scene.disk).free and file.write(bytes(1 << 16)):
                pass
        with scene.daemon.client() as client, contextlib.suppress(ApiError, NoDaemon):
            client.status()
        filler.unlink()
        return True

    if driver is not None:
        kinds["kill -9 of the GPU reader"] = kill_reader
        kinds["kill -9 at a point: GPU reader: in a query"] = kill_reader_in_a_query
    if scene.disk is not None:
        kinds["a full disk for a moment"] = fill_disk
    return kinds
