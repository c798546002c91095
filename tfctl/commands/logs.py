"""Output of a job. Attempts are kept apart; the latest is shown unless another is asked for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator

from tfctl.failures import Failure
from tfctl.output import write_bytes
from tfctl.parsing import whole
from tfctl.render.words import one_line
from tfctl.selection import job_argument, select_one
from tfctl.session import with_daemon
from trainforge.api import JobView
from trainforge.client.client import Client

TAIL = 16 * 2**20  # bytes in which the daemon looks for the beginnings of lines
ALL = "without --tail all that was kept is given"


def arguments(parser: argparse.ArgumentParser) -> None:
    job_argument(parser, many=False)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the job ends")
    parser.add_argument("--rank", type=whole(0), metavar="N", help="of this rank alone")
    parser.add_argument("--attempt", metavar="N", default="latest", help="of this attempt, or all")
    parser.add_argument("--tail", type=whole(0), metavar="N", help="only the last N lines")


def run(args: argparse.Namespace) -> int:
    if args.attempt not in ("latest", "all") and not args.attempt.isdecimal():
        raise Failure(f"--attempt: expected a number, latest or all, found {args.attempt!r}")
    return with_daemon(args, lambda client: _logs(client, args))


def _logs(client: Client, args: argparse.Namespace) -> int:
    job = select_one(client, args.job)
    if args.follow:
        _tell_what_it_waits_for(client.job(job))
    chunks = client.logs(job, attempt=args.attempt, rank=args.rank, tail=args.tail, follow=args.follow)
    lines = size = 0
    try:
        for chunk in _headed(chunks) if args.attempt == "all" else chunks:
            write_bytes(chunk)
            lines, size = lines + chunk.count(b"\n"), size + len(chunk)
    except KeyboardInterrupt:
        print(f"\njob {job} goes on; tfctl logs {job} -f shows it again", file=sys.stderr)
        return 130
    if not size and args.tail != 0:
        yet = "" if client.job(job).state.ended else " yet"
        print(f"note: job {job} has no output{yet}", file=sys.stderr)
    if args.tail is not None and lines < args.tail and size > TAIL // 2 and args.attempt != "all":
        print(f"note: --tail gives at most the newest 16 MiB ({lines} lines here); {ALL}", file=sys.stderr)
    return 0


def _tell_what_it_waits_for(job: JobView) -> None:
    if not (job.state.live or job.state.ended):
        print(f"job {job.id} ({one_line(job.name)}) {job.why}", file=sys.stderr, flush=True)


def _headed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The output of all attempts, where only the later ones come with a heading: the first gets its own."""
    heading = b"==> attempt 1 <==\n"
    for number, chunk in enumerate(chunks):
        yield heading + chunk if number == 0 and not chunk.startswith(heading) else chunk
