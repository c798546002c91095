"""A new job for each that goes on where the old one stopped: same code and settings, unless changed here."""

from __future__ import annotations

import argparse
import sys
import uuid
from typing import Any

import msgspec

from tfctl import projects
from tfctl.changing import refused
from tfctl.failures import Failure, exit_code
from tfctl.output import of_what_is_done, print_json
from tfctl.selection import job_argument, select
from tfctl.session import with_daemon
from tfctl.targets import Target
from trainforge.api import Git, JobView, RetryRequest
from trainforge.client.client import ApiError, Client
from trainforge.jobfile.layers import load, varied
from trainforge.jobfile.tree import to_plain


def arguments(parser: argparse.ArgumentParser) -> None:
    job_argument(parser)
    add = parser.add_argument
    add("--set", action="append", default=[], metavar="KEY.PATH=VALUE", help="a key of the job file")
    add("--env", action="append", default=[], metavar="K=V", help="a variable for the job")
    add("--code", choices=("frozen", "current"), default="frozen", help="the old code, or as it is now")
    add(
        "--from",
        dest="checkpoint",
        choices=("newest", "best", "none"),
        default="newest",
        help="the checkpoint to go on from",
    )
    add("--json", action="store_true", help="print the job as JSON")


def run(args: argparse.Namespace) -> int:
    return with_daemon(args, lambda client: _retry_each(client, args))


def _retry_each(client: Client, args: argparse.Namespace) -> int:
    """All are tried; what was refused is said, and the worst counts."""
    old = select(client, args.jobs)
    made, worst = [], 0
    for number in old:
        try:
            job = _retry(client, number, args)
        except (ApiError, Failure) as error:
            if len(old) == 1:
                raise
            print(f"tfctl: {refused(number, error)}", file=sys.stderr)
            worst = max(worst, exit_code(error) or 0)
            continue
        made.append(job)
        if not args.json:
            again = f", job {number} again" if len(old) > 1 else ""
            with of_what_is_done():
                print(f"submitted job {job.id} ({job.name}){again}")
    if args.json and made:
        with of_what_is_done():
            print_json(made if len(old) > 1 else made[0])
    return worst


def _retry(client: Client, number: int, args: argparse.Namespace) -> JobView:
    old = client.job(number)
    spec = _changed_spec(old, args)
    request = RetryRequest(request_id=uuid.uuid4().hex, spec=spec, checkpoint=args.checkpoint)
    if spec is not None:
        request = msgspec.structs.replace(request, varied=varied([], args.set, args.env))
    if args.code == "current":
        request = _with_current_code(client, old, request)
    return client.retry(old.id, request)


def _changed_spec(old: JobView, args: argparse.Namespace) -> dict[str, Any] | None:
    if not args.set and not args.env:
        return None
    tree = load(base=old.spec, sets=args.set, envs=args.env)
    if any(text.startswith("environment.python=") for text in args.set):
        projects.check_python(tree)
    spec: dict[str, Any] = to_plain(tree.root)
    return spec


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
