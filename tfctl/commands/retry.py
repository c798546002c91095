"""A new job that goes on where an old one stopped: same code and settings, unless changed here."""

from __future__ import annotations

import argparse
import uuid
from typing import Any

import msgspec

from tfctl import projects
from tfctl.failures import Failure
from tfctl.output import print_json
from tfctl.selection import job_argument, select_one
from tfctl.session import with_daemon
from tfctl.targets import Target
from trainforge.api import Git, JobView, RetryRequest
from trainforge.client.client import Client
from trainforge.jobfile.layers import load
from trainforge.jobfile.tree import to_plain


def arguments(parser: argparse.ArgumentParser) -> None:
    job_argument(parser, many=False)
    add = parser.add_argument
    add("--set", action="append", default=[], metavar="KEY.PATH=VALUE", help="a key of the job file")
    add("--env", action="append", default=[], metavar="K=V", help="a variable for the job")
    add("--code", choices=("frozen", "current"), default="frozen", help="the old code, or as it is now")
    add("--from", dest="checkpoint", choices=("newest", "best", "none"), default="newest")
    add("--json", action="store_true", help="print the job as JSON")


def run(args: argparse.Namespace) -> int:
    job = with_daemon(args, lambda client: _retry(client, args))
    if args.json:
        print_json(job)
    else:
        print(f"submitted job {job.id} ({job.name})")
    return 0


def _retry(client: Client, args: argparse.Namespace) -> JobView:
    old = client.job(select_one(client, args.job))
    spec = _changed_spec(old, args)
    request = RetryRequest(request_id=uuid.uuid4().hex, spec=spec, checkpoint=args.checkpoint)
    if args.code == "current":
        request = _with_current_code(client, old, request)
    return client.retry(old.id, request)


def _changed_spec(old: JobView, args: argparse.Namespace) -> dict[str, Any] | None:
    if not args.set and not args.env:
        return None
    tree: dict[str, Any] = to_plain(load(base=old.spec, sets=args.set, envs=args.env).root)
    return tree


def _with_current_code(client: Client, old: JobView, request: RetryRequest) -> RetryRequest:
    import datetime

    from trainforge.jobfile.checks import check

    if old.root is None:
        raise Failure(f"job {old.id} runs in place: its code is always the current one")
    spec = check(request.spec or old.spec or {}, now=datetime.datetime.now().astimezone())
    target = Target(tree=load(base={}), root=old.root, in_place=False)
    frozen = projects.upload(client, target, spec)
    git: Git | None = frozen.git
    return msgspec.structs.replace(request, files=frozen.entries, git=git)
