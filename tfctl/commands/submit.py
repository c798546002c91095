"""Queue a job: a project folder, a job file, a script, or a command behind `--`.

A project is frozen: the job runs the code as it is now, whatever is edited later. A command, or a
script without a job file outside git, runs in place. Behind a script, `--` gives its arguments; behind
a folder or job file, a command to run in that project.

Exits with 0 once the job is accepted, also if that could not be printed; with any other code, but for that
of the job itself under --follow, no job was made, or the connection was lost before the answer.
"""

from __future__ import annotations

import argparse
import datetime
import os
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from tfctl import projects
from tfctl.failures import Failure
from tfctl.output import of_what_is_done, print_json, to_terminal
from tfctl.selection import select, select_one
from tfctl.session import with_daemon
from tfctl.targets import WAITS, Target, here, read_target, spoken
from trainforge.api import JobRequest, JobView, ShellState, SubmitRequest, SweepJob, SweepRequest
from trainforge.client.client import Client
from trainforge.jobfile.checks import check_all
from trainforge.jobfile.layers import Point, grid, varied
from trainforge.jobfile.patches import difference
from trainforge.spec import JobSpec

EXAMPLES = """\
examples:
  tfctl submit                                    the project in this folder
  tfctl submit train.py --gpu 2 -- --lr 0.1       a script, on two GPUs, with arguments
  tfctl submit --gpu 1 -- make all                a command
  tfctl submit --sweep LR=0.1,0.2 --sweep SEED=1,2,3     six jobs
  tfctl submit --set schedule.priority=5 --env EPOCHS=90
"""
AFTER = {
    "--after --afterok": "these have succeeded",
    "--afterany": "these have ended, however",
    "--afternotok": "these have failed or were cancelled",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.usage = "tfctl submit [PROJECT_DIR|JOB_FILE|SCRIPT.py] [options] [-- COMMAND or script arguments]"
    what_to_run(parser)
    add = parser.add_argument
    add("--sweep", action="append", default=[], metavar="K=V1,V2", help="one job for each value; the grid")
    for flag, when in AFTER.items():
        add(*flag.split(), action="append", default=[], metavar="JOB", help=f"start when {when}: 9,10")
    add("--hold", action="store_true", help="queue it held")
    add("--resume-from", metavar="JOB", help="start from this job's newest checkpoint")
    add("--follow", action="store_true", help="show its log and progress until it ends")
    add("--json", action="store_true", help="print the job as JSON")
    add("--dry-run", action="store_true", help="check and freeze, queue nothing")


def what_to_run(parser: argparse.ArgumentParser) -> None:
    """The arguments that say what a job is, for `read_target`."""
    add = parser.add_argument
    add("target", nargs="?", metavar="TARGET", help="a folder, job file or script (default: this folder)")
    add("-f", "--file", action="append", default=[], metavar="FILE", help="job file to lay over the others")
    add("--name", help="the job's name")
    add("--gpu", "--gpus", metavar="N", help="0, N, or a range 2-8")
    add("--cpu", metavar="N", help="cores")
    add("--memory", "--mem", metavar="SIZE", help="host memory, 32Gi")
    add("--env", action="append", default=[], metavar="K=V", help="a variable for the job")
    add("--set", action="append", default=[], metavar="KEY.PATH=VALUE", help="a key of the job file")
    add("--priority", metavar="N", help="-100 … 100, higher first")
    add("--time-limit", metavar="D", help="over all attempts: 90s, 30m, 12h, 2d")
    add("--begin", metavar="T", help='not before: "22:00", now+2h, ISO 8601')
    parser.set_defaults(words=[])


def split(args: list[str]) -> tuple[list[str], list[str]]:
    """What stands before and behind `--`."""
    if "--" not in args:
        return args, []
    at = args.index("--")
    if at == len(args) - 1:
        raise Failure("nothing stands behind --")
    return args[:at], args[at + 1 :]


def hint(args: list[str], left: list[str], parsed: argparse.Namespace) -> str:
    """What was meant by words that are left over: arguments of a script, or a command, without `--`."""
    target = parsed.target
    if target is None or parsed.words or os.path.isdir(target):
        return ""
    if target.endswith(".py"):
        words, what = [*_without(args, left), "--", *left], "a script's arguments go"
    elif not os.path.exists(target):
        at = args.index(target)
        words, what = [*args[:at], "--", *args[at:]], "a command goes"
    else:
        return ""
    return f"; {what} behind --: tfctl submit {spoken(words)}"


def _without(args: list[str], left: list[str]) -> list[str]:
    """`args` but for `left`, which stands in them in the same order."""
    rest = iter(left)
    following = next(rest, None)
    kept = []
    for word in args:
        if word == following:
            following = next(rest, None)
        else:
            kept.append(word)
    return kept


def run(args: argparse.Namespace) -> int:
    if args.dry_run and not any(getattr(args, key) for key in WAITS) and args.resume_from is None:
        return _dry_run(args, {})
    jobs, points = with_daemon(args, lambda client: _submit(client, args), submitting=True)
    if not jobs:
        return 0
    with of_what_is_done():
        if args.json:
            print_json(jobs[0] if not args.sweep else jobs)
        else:
            for job, point in zip(jobs, points, strict=True):
                print(f"submitted job {job.id} ({job.name}){projects.varied(point)}")
            if jobs[0].id == 1 and not args.follow and to_terminal():
                print("watch it with tfctl top, or read along with tfctl logs 1 -f")
    if not args.follow:
        return 0
    from tfctl.following import follow

    return follow(args, jobs[-1].id)


def _submit(client: Client, args: argparse.Namespace) -> tuple[tuple[JobView, ...], tuple[Point, ...]]:
    named = {key: [word for words in getattr(args, key) for word in words.split(",")] for key in WAITS}
    after = {key: select(client, words) for key, words in named.items()}
    resume = select_one(client, args.resume_from) if args.resume_from is not None else None
    if args.dry_run:
        _dry_run(args, after)
        return (), ()
    target, points, specs = _read(args, after)
    projects.check_requirements(target, specs[0])
    frozen = None if target.in_place else projects.upload(client, target, specs[0])
    shell = shell_state(target)
    first, *others = [projects.plain(spec) for spec in specs]
    request = SubmitRequest(
        spec=first,
        request_id=uuid.uuid4().hex,
        workdir=target.root if frozen is None else None,
        files=None if frozen is None else frozen.entries,
        shell=shell,
        git=frozen.git if frozen is not None else None,
        hold=args.hold,
        resume_from=resume,
        varied=varied(args.sweep, args.set, args.env),
    )
    jobs = client.submit_sweep(_sweep(request, others)) if others else (client.submit(request),)
    projects.say_about(target, specs[0], frozen)
    return jobs, points


def _sweep(first: SubmitRequest, others: Sequence[dict[str, Any]]) -> SweepRequest:
    """One request for all points of a grid: what they share of files, shell and settings is in it once."""
    shared = {name: getattr(first, name) for name in JobRequest.__struct_fields__}
    made = [SweepJob(request_id=uuid.uuid4().hex, spec=difference(first.spec, each)) for each in others]
    return SweepRequest(jobs=(SweepJob(request_id=first.request_id), *made), **shared)


def _read(
    args: argparse.Namespace, after: Mapping[str, Sequence[int]]
) -> tuple[Target, tuple[Point, ...], tuple[JobSpec, ...]]:
    target = read_target(args, args.words, after)
    points = grid(target.tree, args.sweep)
    now = datetime.datetime.now().astimezone()
    specs = check_all([point.tree for point in points], now=now)
    for point in points:
        projects.check_python(point.tree)
    return target, points, specs


def _dry_run(args: argparse.Namespace, after: Mapping[str, Sequence[int]]) -> int:
    target, points, specs = _read(args, after)
    frozen = None if target.in_place else projects.freeze(target, specs[0])
    projects.say_about(target, specs[0], frozen)
    projects.check_requirements(target, specs[0])
    if args.json:
        print_json(specs if args.sweep else specs[0])
    else:
        print(projects.summary(target, points, specs, frozen))
    return 0


def shell_state(target: Target) -> ShellState:
    """What the job takes over from this shell."""
    return ShellState(env=dict(os.environ), python=projects.python(), cwd=here(), root=target.root)
