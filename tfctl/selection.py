"""Which jobs a JOB argument means, and which GPUs a GPU argument.

A JOB is a number, `12-21`, `@` for your latest, a name or a name pattern. A GPU is an index, or the
beginning of a UUID.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence

from tfctl.failures import NO_SUCH_JOB, USAGE, Failure
from trainforge.api import GpuView
from trainforge.client.client import Client

MOST = 100_000  # jobs that a range may span
RANGE = re.compile(r"(\d+)-(\d+)", re.ASCII)


def job_argument(parser: argparse.ArgumentParser, *, many: bool = True, optional: bool = False) -> None:
    """Add the JOB argument to a command."""
    nargs = {(True, False): "+", (True, True): "*", (False, True): "?", (False, False): None}[many, optional]
    name = "jobs" if many else "job"
    parser.add_argument(
        name, metavar="JOB", nargs=nargs, help="number, 12-21, @ (your latest), name or quoted pattern"
    )


def select(client: Client, words: Sequence[str]) -> list[int]:
    """The ids that the words mean, each once, in the order given. Raises `Failure` where one means none."""
    found: dict[int, None] = {}
    for word in words:
        found.update(dict.fromkeys(_expand(client, word)))
    return list(found)


def select_one(client: Client, word: str) -> int:
    """The one job that the word means; of several with that name, the latest."""
    if RANGE.fullmatch(word):
        raise Failure(f"{word}: one job is needed here, not a range", USAGE)
    return next(iter(_expand(client, word, latest=True)))


def _expand(client: Client, word: str, latest: bool = False) -> Iterable[int]:
    _refuse_empty(word, "JOB")
    if re.fullmatch(r"\d{1,18}", word, re.ASCII):
        return [int(word)]
    if match := RANGE.fullmatch(word):
        return _range(client, word, match[1], match[2])
    limit = 1 if latest or word == "@" else 1000
    page = client.jobs(name=None if word == "@" else word, limit=limit)
    if not page.jobs:
        what = "you have no job" if word == "@" else f"no job is called {word}"
        raise Failure(what, NO_SUCH_JOB)
    return [job.id for job in page.jobs]


def _refuse_empty(word: str, what: str) -> None:
    """Mostly of a shell's variable that is not set: it does not mean all of them."""
    if not word.strip():
        raise Failure(f"{what}: expected one, found {word!r}: is a variable of your shell not set?", USAGE)


def _range(client: Client, word: str, low: str, high: str) -> list[int]:
    if max(len(low), len(high)) > 18:
        raise Failure(f"{word[:80]}: numbers of jobs are not that large")
    first, last = int(low), int(high)
    if last < first:
        raise Failure(f"{word}: a range goes from a lower to a higher number")
    if last - first >= MOST:
        raise Failure(f"{word}: a range spans at most {MOST:,} numbers, this one {last - first + 1:,}")
    ids = [job.id for job in client.all_jobs() if first <= job.id <= last]
    if not ids:
        raise Failure(f"there are no jobs {word}", NO_SUCH_JOB)
    return sorted(ids)


def gpu_argument(parser: argparse.ArgumentParser) -> None:
    """Add the GPU argument to a command."""
    parser.add_argument("gpu", metavar="GPU", nargs="+", help="index, or the beginning of a UUID")


def select_gpus(client: Client, words: Sequence[str]) -> list[GpuView]:
    """The GPUs that the words mean, each once. Raises `Failure` where one does not mean exactly one."""
    gpus = client.gpus().gpus
    found = {gpu.uuid: gpu for word in words for gpu in [_gpu(gpus, word)]}
    return list(found.values())


def _gpu(gpus: Sequence[GpuView], word: str) -> GpuView:
    _refuse_empty(word, "GPU")
    meant = [gpu for gpu in gpus if str(gpu.index) == word or gpu.uuid == word]
    meant = meant or [gpu for gpu in gpus if gpu.uuid.lower().startswith(word.lower())]
    if len(meant) != 1:
        problem = "no GPU is" if not meant else "more than one GPU begins with"
        raise Failure(f"{problem} {word}; tfctl gpus lists them", USAGE)
    return meant[0]
