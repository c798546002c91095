"""A machine of user-mode Linux: a kernel of its own, a program that boots in seconds and needs no rights.

What this machine has on its disk is seen there, read-only.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

GUESTS = Path(__file__).parent / "guests"
CHECKOUT = Path(__file__).parents[2]
LIMIT = 240.0  # seconds; it is slow where the machine is busy


def kernel() -> str | None:
    """The program; None where it is not installed."""
    return shutil.which("linux.uml")


def run(guest: str) -> str:
    """Boot, run the program `guests/<guest>` and switch off; what it wrote to the console."""
    line = [
        *(str(kernel()), "mem=768M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"),
        *("con=null", "con0=fd:0,fd:1", "con1=null", f"init={GUESTS / 'init.sh'}"),
        *(f"GUEST={GUESTS / guest}", f"PYTHON={sys.executable}", f"CHECKOUT={CHECKOUT}"),
    ]
    done = subprocess.run(
        line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT
    )
    return done.stdout.decode(errors="replace")
