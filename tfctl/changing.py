"""One request for each of several jobs: all are tried, what was refused is said, the worst counts."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable

from tfctl.failures import exit_code
from tfctl.output import of_what_is_done
from tfctl.render.words import one_line
from tfctl.selection import select
from tfctl.session import with_daemon
from trainforge.api import JobView
from trainforge.client.client import ApiError, Client

Change = Callable[[Client, int], JobView]


def change_each(
    args: argparse.Namespace, change: Change, done: Callable[[JobView], str] | None = None
) -> int:
    """Do it to each of `args.jobs`; the exit code. `done` says what came of it in a line."""

    def each(client: Client) -> int:
        worst = 0
        for job in select(client, args.jobs):
            try:
                view = change(client, job)
            except ApiError as error:
                print(f"tfctl: {refused(job, error)}", file=sys.stderr)
                worst = max(worst, exit_code(error) or 0)
            else:
                text = done(view) if done is not None else f"job {view.id} ({view.name}) {one_line(view.why)}"
                with of_what_is_done():
                    print(text)
        return worst

    return with_daemon(args, each)


def refused(job: int, error: Exception) -> str:
    """What was refused for the job, which the daemon's own sentence mostly names."""
    named = re.search(rf"\b{job}\b", str(error))
    return str(error) if named else f"job {job}: {error}"
