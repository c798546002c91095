"""The real daemon in a folder of its own, and what tests ask of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support import quickest
from trainforge.api import JobView, SubmitRequest
from trainforge.client.client import Client, NoDaemon
from trainforge.client.sockets import connect
from trainforge.states import JobState

DEADLINE = 120.0  # seconds: it only bounds the waiting of a test that fails
Done = subprocess.CompletedProcess[str]


def wait_until(condition: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """The first true value of `condition`; fails after `deadline` seconds."""
    limit = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < limit, f"waited {deadline} s for {what}"
        time.sleep(0.01)


class RealDaemon:
    """`trainforged` as a user starts it, on simulated GPUs; where `gpus` is None on those that the driver of
    `env` shows. `stop` and `kill` may be followed by `start`."""

    module = "trainforged"

    def __init__(
        self, folder: Path, gpus: int | None = 2, *options: str, env: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.state_dir = folder / "state"
        self.socket = folder / "d.sock"
        self.log = folder / "daemon.log"
        web = () if "--web" in options else ("--web", "off")  # its port is one for the whole machine
        made_up = () if gpus is None else ("--simulate-gpus", str(gpus))
        self._options = (*made_up, *web, *options)
        self._env = env
        self.process: subprocess.Popen[bytes] | None = None

    # ---- life

    def start(self, wait: bool = True) -> RealDaemon:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=self._env,
            )  # fmt: skip
        if wait:
            wait_until(self._answers, "the daemon to answer")
        return self

    def argv(self) -> list[str]:
        places = ["--state-dir", str(self.state_dir), "--socket", str(self.socket)]
        return [sys.executable, "-m", self.module, *places, *self._options]

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            connect(self.socket, 5.0)[0].close()
        except NoDaemon:
            return False
        return True

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def stop(self) -> float:
        """An orderly stop; how many seconds it took."""
        assert self.process is not None
        began = time.monotonic()
        self.send(signal.SIGTERM)
        try:
            assert self.process.wait(DEADLINE) == 0, self.log.read_text()
        except subprocess.TimeoutExpired:
            self.send(signal.SIGABRT)  # it writes its stacks to the log
            self.process.wait(DEADLINE)
            raise AssertionError(f"it does not stop: {self.log.read_text()}") from None
        return time.monotonic() - began

    def stops_within(self, limit: float) -> bool:
        """Whether an orderly stop takes no longer. Where it did, others may have had the machine, and it is
        started and stopped again, a few times. It is stopped afterwards."""

        def again() -> float:
            assert self.process is not None
            if self.process.poll() is not None:
                self.start()
            return self.stop()

        return quickest(again, limit) < limit

    def kill(self) -> None:
        assert self.process is not None
        self.send(signal.SIGKILL)
        self.process.wait()

    def send(self, number: signal.Signals) -> None:
        """To the daemon alone; nothing if it has ended."""
        assert self.process is not None
        self.process.send_signal(number)

    def close(self) -> None:
        """End the daemon and every process that a job of it left."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def processes(self) -> list[int]:
        """Everything that was started below the state folder: shims, and what they started."""
        mark = str(self.state_dir).encode()
        found = []
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) in (os.getpid(), self.process.pid if self.process else 0):
                continue
            try:
                with (
                    open(f"/proc/{name}/environ", "rb") as environ,
                    open(f"/proc/{name}/cmdline", "rb") as line,
                ):
                    if mark in environ.read() or mark in line.read():
                        found.append(int(name))
            except OSError:
                continue
        return found

    # ---- asking

    def client(self, **options: Any) -> Client:
        return Client(self.socket, **options)

    def tfctl(
        self, *args: str, cwd: Path | None = None, check: bool = True, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """A command as a user types it."""
        done = subprocess.run(
            [sys.executable, "-m", "tfctl", *args],
            cwd=cwd or self.folder, capture_output=True, text=True, timeout=DEADLINE,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"TRAINFORGE_SOCKET": str(self.socket), "PATH": own_path()} | env,
        )  # fmt: skip
        assert not check or done.returncode == 0, (done.args, done.returncode, done.stdout, done.stderr)
        return done

    def get(self, target: str, method: str = "GET") -> Any:
        """The JSON that a route answers over the socket."""
        with connect(self.socket, DEADLINE)[0] as sock:
            sock.sendall(f"{method} {target} HTTP/1.0\r\n\r\n".encode())
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 200 " in head.split(b"\r\n")[0], answer
        return json.loads(body)

    def post(self, target: str) -> Any:
        return self.get(target, "POST")

    def command(self, *argv: str, **fields: Any) -> JobView:
        """Submit a command that runs in the test's folder. `fields` are sections of the job file."""
        with self.client() as client:
            return client.submit(request(argv, self.folder, **fields))

    def wait_for(self, job: int, *states: JobState) -> JobView:
        """The job, once it is in one of the states (default: ended)."""

        def reached() -> JobView | None:
            with self.client() as client:
                view = client.job(job)
            return view if (view.state in states if states else view.state.ended) else None

        view: JobView = wait_until(reached, f"job {job} to be {states or 'ended'}")
        return view


def own_path() -> str:
    """PATH on which `python3` is the interpreter that runs the tests."""
    return f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"


def request(argv: Sequence[str], workdir: Path, **fields: Any) -> SubmitRequest:
    """A submission of a command; no GPU unless `resources` says so."""
    hold = fields.pop("hold", False)
    spec = {
        "project": {"name": fields.pop("name", "test")},
        "training": {"command": list(argv)},
        "resources": {"gpu": 0},
    } | fields
    return SubmitRequest(spec=spec, request_id=uuid.uuid4().hex, workdir=str(workdir), hold=hold)
