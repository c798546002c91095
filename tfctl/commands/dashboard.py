"""Open the web page, signed in. Without a display: print the address, and how to reach it from elsewhere.

The address opens the page once, within a minute.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from urllib.parse import urlsplit

from tfctl.session import with_daemon
from trainforge.api.page import SignInAnswer
from trainforge.client.home import user_name

OPENER = "xdg-open"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--print", action="store_true", help="only print the address")


def run(args: argparse.Namespace) -> int:
    answer = with_daemon(args, lambda client: client.sign_in())
    opener = None if args.print or not _has_display() else shutil.which(OPENER)
    if opener is not None and _opened(opener, answer.address):
        print(f"opened http://{urlsplit(answer.address).netloc}/ in your browser")
    else:
        print("\n".join(instructions(answer)))
    return 0


def instructions(answer: SignInAnswer) -> list[str]:
    """The address, and how it is reached from another machine."""
    port = urlsplit(answer.address).port
    return [
        answer.address,
        "opens the page once, within a minute. From another machine, first:",
        f"  ssh -L {port}:127.0.0.1:{port} {user_name()}@{os.uname().nodename}",
    ]


def _has_display() -> bool:
    """Over ssh a browser would open where nobody sits, or slowly."""
    here = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(here) and "SSH_CONNECTION" not in os.environ


def _opened(opener: str, address: str) -> bool:
    """Without waiting: some openers stay until the browser is closed."""
    try:
        process = subprocess.Popen(
            [opener, address],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        return process.wait(2.0) == 0
    except subprocess.TimeoutExpired:
        return True
    except OSError:
        return False
