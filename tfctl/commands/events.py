"""What happened, in order: of one job, or of everything."""

from __future__ import annotations

import argparse

from tfctl.output import print_json
from tfctl.render.figures import clock
from tfctl.render.words import one_line
from tfctl.selection import job_argument, select_one
from tfctl.session import with_daemon
from trainforge.api import EventView
from trainforge.client.client import Client


def arguments(parser: argparse.ArgumentParser) -> None:
    job_argument(parser, many=False, optional=True)
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what happens from now on")
    parser.add_argument("--json", action="store_true", help="one JSON document; with -f one per line")


def run(args: argparse.Namespace) -> int:
    return with_daemon(args, lambda client: _events(client, args))


def _events(client: Client, args: argparse.Namespace) -> int:
    job = select_one(client, args.job) if args.job is not None else None
    if args.json and not args.follow:
        print_json({"events": list(client.events(job=job))})
        return 0
    last = 0
    for event in client.events(job=job):
        _show(event, args.json)
        last = event.id
    if args.follow:
        for event in client.events(last, job=job, follow=True):
            _show(event, args.json)
    return 0


def _show(event: EventView, as_json: bool) -> None:
    if as_json:
        print_json(event)
        return
    job = f"job {event.job}" if event.job is not None else ""
    print(f"{clock(event.time):<16}  {job:<9}  {event.type:<16}  {one_line(event.message)}", flush=True)
