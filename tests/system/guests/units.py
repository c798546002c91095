"""As `limits`, where systemd runs: the daemon is a service, and jobs are units of its user's manager."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.support import wait_for
from tests.system.guests.limits import DEADLINE, EATS, populated, throttled

USER, UID = "alice", 1000
RESULT = Path("/result.json")
HOME = f"/home/{USER}"
MANAGER = Path(f"/sys/fs/cgroup/user.slice/user-{UID}.slice/user@{UID}.service")


def run(*argv: str, user: bool = True, **env: str) -> str:
    """As the user, or as root."""
    who = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--init-groups"] if user else []
    base = {"PATH": os.environ["PATH"], "HOME": HOME if user else "/root", "LANG": "C.UTF-8"}
    if user:
        base["XDG_RUNTIME_DIR"] = f"/run/user/{UID}"
    done = subprocess.run(
        [*who, *argv], env=base | env, cwd="/", capture_output=True, text=True, timeout=DEADLINE
    )
    return done.stdout + done.stderr


def tfctl(*words: str, user: bool = True, **env: str) -> str:
    return run(sys.executable, "-P", "-m", "tfctl", *words, user=user, **env)


def job(number: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(tfctl("status", str(number), "--json"))
    return found


def group(number: int) -> Path | None:
    """Of the job's unit, once it runs."""
    return next((path for path in MANAGER.glob(f"**/trainforge-{number}-*") if populated(path)), None)


def main() -> dict[str, Any]:
    found: dict[str, Any] = {"installed": tfctl("daemon", "install", user=False, SUDO_USER=USER)}
    run("systemctl", "restart", f"user@{UID}", user=False)  # it may limit CPU time from now on
    tfctl("submit", "--memory", "64Mi", "--", "sh", "-c", "while :; do :; done")
    folder = wait_for(lambda: group(1), DEADLINE, "the unit") or Path()
    found["limits"] = [(folder / file).read_text().strip() for file in ("memory.max", "cpu.max")]
    quota = "CPUQuota=20%"  # for there is one core only
    run("systemctl", "--user", "set-property", "--runtime", folder.name, quota)
    wait_for(lambda: throttled(folder) > 2, DEADLINE, "it to be held back")
    tfctl("cancel", "--now", "1")
    tfctl("submit", "--memory", "64Mi", "--", sys.executable, "-c", EATS)
    tfctl("wait", "2")
    ended = job(2)
    found["eater"] = {"state": ended["state"], "reason": ended["reason"], "why": tfctl("why", "2")}
    return found


if __name__ == "__main__":
    began = time.monotonic()
    try:
        said = main()
    except BaseException as error:
        log = run("journalctl", "-b", "-u", "trainforged", "-o", "cat", "--no-pager", user=False)
        said = {"error": repr(error), "log": log}
    RESULT.write_text(json.dumps(said | {"seconds": time.monotonic() - began}))
