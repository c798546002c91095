"""On a machine whose control groups have all controllers: what becomes of jobs that want too much.

Says what it found in a line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support import wait_for

DEADLINE = 120.0
FOLDER = Path(tempfile.gettempdir()) / "tf"
SOCKET = FOLDER / "d.sock"
GROUPS = Path("/sys/fs/cgroup/trainforge")
EATS = "import sys; print('eats', flush=True); sys.stdout.write(str(len(b'x' * (512 << 20))))"
WAITS = ("--", "sleep", "1000")


def tfctl(*words: str) -> str:
    env = os.environ | {"TRAINFORGE_SOCKET": str(SOCKET)}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tfctl", *words],
        env=env,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    return done.stdout + done.stderr


def submit(*words: str) -> int:
    return int(tfctl("submit", *words).split()[2])


def job(number: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(tfctl("status", str(number), "--json"))
    return found


def outcome(number: int) -> dict[str, Any]:
    tfctl("wait", str(number))  # which leaves the only core to the job
    found = job(number)
    return {"state": found["state"], "reason": found["reason"], "why": tfctl("why", str(number))}


def group(number: int) -> Path:
    """That of its first attempt, once it runs."""

    def found() -> Path | None:
        return next((path for path in GROUPS.glob(f"trainforge-{number}-1-*") if populated(path)), None)

    return wait_for(found, DEADLINE, f"job {number} to run") or Path()


def populated(folder: Path) -> bool:
    return bool((folder / "cgroup.procs").read_text())


def throttled(folder: Path) -> int:
    lines = (folder / "cpu.stat").read_text().splitlines()
    return int(dict(line.split() for line in lines)["nr_throttled"])


def main() -> None:
    FOLDER.mkdir()
    with (FOLDER / "log").open("w") as log:
        daemon = subprocess.Popen(
            [
                sys.executable, "-P", "-m", "trainforged", "--state-dir", str(FOLDER / "state"),
                "--socket", str(SOCKET), "--simulate-gpus", "1", "--web", "off",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
    wait_for(SOCKET.exists, DEADLINE, "the daemon")
    found: dict[str, Any] = {"doctor": tfctl("doctor")}
    bystander = group(submit("--memory", "1Gi", *WAITS))
    busy = group(submit("--memory", "64Mi", "--", "sh", "-c", "while :; do :; done"))
    found["limits"] = [(busy / name).read_text().strip() for name in ("memory.max", "cpu.max")]
    (busy / "cpu.max").write_text("20000 100000")  # less than a core, for there is only one here
    wait_for(lambda: throttled(busy) > 2, DEADLINE, "it to be held back")
    tfctl("cancel", "--now", "2")
    found["itself"] = outcome(submit("--memory", "64Mi", "--", sys.executable, "-c", EATS))
    shell = f'{sys.executable} -c "{EATS}"; exit $?'
    found["child"] = outcome(submit("--memory", "64Mi", "--", "sh", "-c", shell))
    os.kill(int((bystander / "cgroup.procs").read_text().split()[0]), signal.SIGKILL)
    found["bystander"] = outcome(1)
    found["groups"] = [str(path) for path in GROUPS.glob("trainforge-*")]
    daemon.terminate()
    found["daemon"] = daemon.wait(DEADLINE)
    print("FOUND", json.dumps(found), flush=True)


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        print((FOLDER / "log").read_text() if FOLDER.exists() else "", flush=True)
        raise
