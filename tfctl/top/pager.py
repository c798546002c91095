"""The log of a job in the user's pager: `tfctl logs -f` into `$PAGER`, by default `less +F`."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path


def pager() -> list[str] | None:
    """The command; None where there is none."""
    words = shlex.split(os.environ.get("PAGER") or "less")
    if not words or shutil.which(words[0]) is None:
        return None
    return [*words, "-R", "+F"] if os.path.basename(words[0]) == "less" else words


def show(command: list[str], socket: Path, job: int) -> None:
    """Run the pager until it is left. The terminal is the pager's meanwhile.

    The log is read by a process outside the terminal's group: Ctrl-C is for the pager alone.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "tfctl", "logs", str(job), "-f", "--attempt", "all"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"TRAINFORGE_SOCKET": str(socket)},
    ) as log:
        try:
            subprocess.run(command, stdin=log.stdout, check=False)
        finally:
            log.kill()
