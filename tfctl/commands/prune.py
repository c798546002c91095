"""Remove jobs that ended longer ago than a duration, with their files."""

from __future__ import annotations

import argparse

from tfctl.failures import Failure
from tfctl.output import of_what_is_done
from tfctl.render.figures import counted, size
from tfctl.session import with_daemon
from trainforge.jobfile.units import parse_duration


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--older-than", metavar="D", required=True, help="30m, 12h, 7d")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def run(args: argparse.Namespace) -> int:
    try:
        seconds = parse_duration(args.older_than)
    except ValueError as error:
        raise Failure(f"--older-than: {error}") from None
    answer = with_daemon(args, lambda client: client.prune(seconds, dry_run=args.dry_run))
    verb = "would remove" if args.dry_run else "removed"
    ids = ", ".join(map(str, answer.jobs))
    of_them = f": {ids}" if ids else ""
    with of_what_is_done():
        print(f"{verb} {counted(len(answer.jobs), 'job')}, {size(answer.freed)}{of_them}")
    return 0
