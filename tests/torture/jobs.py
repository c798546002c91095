"""The mixed queue: what each job is, and what may become of it under which faults.

Every job takes a lock of its own and one for each GPU it was given, for as long as any process of it lives:
a lock that is taken already is written down, and is a job that runs twice or a GPU with two holders.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from trainforge.api import JobView, SubmitRequest
from trainforge.states import JobState

ROOT = Path(__file__).parents[2]

PRELUDE = """
import fcntl, json, os, sys, time
sys.path.append({root!r})
from tests.torture.points import reached
folder, job, rank = {folder!r}, os.environ["TRAINFORGE_JOB_ID"], os.environ.get("RANK", "0")
def write(*words):
    fd = os.open(folder + "/ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, (" ".join(map(str, words)) + "\\n").encode())
    os.close(fd)
def hold(name):
    fd = os.open(folder + "/locks/" + name, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        write("TAKEN", name, "job", job)
    return fd
with open(os.environ["TRAINFORGE_ATTEMPT_DIR"] + "/launch.json") as file:
    gpus = json.load(file)["gpus"]
    if os.environ.get("WORLD_SIZE", "1") != "1":
        gpus = gpus[int(rank):][:1]
    held = [hold(name) for name in ["job-" + job + "-" + rank, *gpus]]
"""

COMMAND = """
time.sleep({seconds})
sys.exit({code})
"""

FORKER = """
import signal
for kind in range(4):
    if os.fork() == 0:
        if kind & 1: os.setsid()
        if kind & 2: signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
        os._exit(0)
time.sleep({seconds})
sys.exit({code})
"""

# A training without torch: it saves each third step and goes on from there.
TRAINING = """
import trainforge
path = os.environ["TRAINFORGE_CHECKPOINT_DIR"] + "/saved"
step = int(open(path).read()) if os.path.exists(path) else 0
if rank == "0":
    write("RESUMED", job, step)
reached(folder, "rank: it begins", job)
while step < {steps}:
    time.sleep({pace})
    step += 1
    trainforge.report(step=step, steps={steps}, loss=1.0 / step)
    if step % 3 == 0 and rank == "0":
        reached(folder, "rank: it saves", job)
        with open(path + ".new", "w") as file:
            file.write(str(step))
            file.flush()
            os.fsync(file.fileno())
        write("SAVED", job, step)
        os.rename(path + ".new", path)
        reached(folder, "rank: it has saved", job)
"""


TRAININGS = ("training", "ranks")  # the second of two ranks, under a launcher


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """A job to submit. `code`: its exit status if nobody meddles."""

    kind: str  # command | forker | training | ranks
    source: str
    resources: dict[str, int]
    code: int = 0


def plan(chance: random.Random, count: int) -> list[Planned]:
    """A queue of `count` jobs, two fifths of them trainings, a few of these with two ranks."""
    return [_one(chance) for _ in range(count)]


def _one(chance: random.Random) -> Planned:
    kind = chance.choice(["command"] * 8 + ["forker"] * 4 + ["training"] * 6 + ["ranks"] * 2)
    if kind in TRAININGS:
        source = TRAINING.format(steps=chance.randint(6, 20), pace=chance.choice([0.02, 0.05, 0.1]))
        gpus = 2 if kind == "ranks" else chance.randint(0, 1)
        return Planned(kind=kind, source=source, resources={"gpu": gpus, "cpu": 1})
    code, template = chance.choice([0, 0, 3, 77]), FORKER if kind == "forker" else COMMAND
    source = template.format(seconds=chance.choice([0.0, 0.1, 0.5, 1.0]), code=code)
    return Planned(kind=kind, source=source, resources={"gpu": chance.randint(0, 2), "cpu": 1}, code=code)


def request(planned: Planned, number: int, folder: Path) -> SubmitRequest:
    """The submission. Sent again after a lost answer it is the same job."""
    script = folder / f"{planned.kind}-{number}.py"
    script.write_text(PRELUDE.format(folder=str(folder), root=str(ROOT)) + planned.source)
    if planned.kind in TRAININGS:
        training: dict[str, Any] = {"script": script.name}
        recovery: dict[str, Any] = {"max_retries": 1000, "backoff": 0.1, "grace": 1.0}
    else:
        training, recovery = {"command": [sys.executable, str(script)]}, {"grace": 0.5}
    spec = {
        "project": {"name": script.stem},
        "training": training,
        "resources": planned.resources,
        "environment": {"python": sys.executable},
        "recovery": recovery,
    }
    return SubmitRequest(spec=spec, request_id=script.stem, workdir=str(folder))


def wrong(planned: Planned, job: JobView, meddled: Collection[str]) -> str | None:
    """What is wrong with how the job ended, given what was done to it; None if nothing."""
    if job.state is JobState.CANCELLED:
        return None if "cancel" in meddled else "cancelled by nobody"
    if planned.kind in TRAININGS:
        return None if job.state is JobState.SUCCEEDED else f"{job.state} ({job.reason}): {job.why}"
    ended = JobState.SUCCEEDED if planned.code == 0 else JobState.FAILED
    expected = job.state is ended and job.exit_code == planned.code
    lost = job.reason == "lost" and "shim" in meddled
    killed = job.reason == "killed" and "rank" in meddled
    if expected or lost or killed:
        return None
    return f"{job.state} ({job.reason}, exit code {job.exit_code}), expected {planned.code}"


class Ledger(msgspec.Struct, frozen=True):
    """What the jobs' own words prove: two at once, and trainings that went on from elsewhere than where they
    had stopped."""

    doubled: list[str]
    wrong: list[str]


def read_ledger(path: Path) -> Ledger:
    saved: dict[str, int] = {}
    told = Ledger([], [])
    for line in path.read_text().splitlines():
        word, *rest = line.split()
        if word == "TAKEN":
            told.doubled.append(line)
        elif word == "SAVED":
            saved[rest[0]] = int(rest[1])
        elif word == "RESUMED" and int(rest[1]) not in (saved.get(rest[0], 0), saved.get(rest[0], 0) - 3):
            told.wrong.append(f"job {rest[0]} went on from {rest[1]}, had saved {saved.get(rest[0], 0)}")
    return told
