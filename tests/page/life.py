"""Jobs as people have them, for pictures: of the training project, on made-up GPUs, trained on the CPU.

One that a killed rank and a restart of the daemon interrupted, a sweep, one that diverged, one that runs,
some that wait, and a GPU that is drained. A folder keeps them for the next time.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.daemon.real import RealDaemon, wait_until
from tests.page.conftest import free_port
from trainforge.states import JobState

GPUS = 4
LONG = 3_000.0  # s that a training may take on a busy machine
SMALL = """
project: {description: ResNet-20 on handwritten digits}
env: {REPORT_INTERVAL: 2, BATCH_SIZE: 64, MODEL: resnet20, DATASET: digits, EPOCHS: %d}
"""


@dataclasses.dataclass(frozen=True)
class Life:
    """Jobs by what they show; `sweep`: several, as an address names them."""

    jobs: dict[str, int | str]


def daemon_in(folder: Path, gpus: int) -> tuple[RealDaemon, str]:
    """Started on what the folder keeps, and the address of its page."""
    folder.mkdir(parents=True, exist_ok=True)
    daemon = RealDaemon(folder, gpus, "--web", f"127.0.0.1:{free_port()}").start()
    address = wait_until(lambda: daemon.get("/v1/status")["web"], "the web port")
    return daemon, f"http://{address.rpartition('/')[2]}"


def lived(daemon: RealDaemon) -> Life:
    """Everything up to the job that runs; that one begins anew each time."""
    kept = daemon.folder / "life.json"
    if not kept.exists():
        project(daemon)
        jobs = past(daemon) | future(daemon)
        kept.write_text(json.dumps(jobs))
    jobs = json.loads(kept.read_text())
    (runs,) = submit(daemon, "resnet20-long", 2, 400)
    wait_until(lambda: epoch(daemon, runs) >= 2, "the training to come some way", LONG)
    return Life(jobs=jobs | {"runs": runs})


def project(daemon: RealDaemon) -> None:
    """As `init` writes it, in a repository."""
    daemon.tfctl("init", "digits", "--name", "digits")
    folder = daemon.folder / "digits"
    who = ("-c", "user.name=alice", "-c", "user.email=alice@localhost", "-c", "commit.gpgsign=false")
    for words in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "A project")):
        subprocess.run(["git", "-C", str(folder), *who, *words], check=True)


def past(daemon: RealDaemon) -> dict[str, int | str]:
    (digits,) = submit(daemon, "resnet20-digits", 2, 8)
    wait_until(lambda: epoch(daemon, digits) >= 3, "a part of the training", LONG)
    os.kill(rank(daemon, digits, 1), signal.SIGKILL)
    wait_until(lambda: view(daemon, digits)["attempt"] == 2, "the second attempt", LONG)
    wait_until(lambda: epoch(daemon, digits) >= 5, "more of the training", LONG)
    daemon.kill()
    daemon.start()
    end(daemon, digits)
    points = submit(daemon, "lr-sweep", 1, 4, "--sweep", "LEARNING_RATE=0.01,0.05,0.2")
    (diverges,) = submit(daemon, "sgd-too-fast", 2, 8, "--env", "LEARNING_RATE=1e6")
    for job in (*points, diverges):
        end(daemon, job)
    sweep = ",".join(map(str, points))
    return {"digits": digits, "swept": points[1], "sweep": sweep, "diverges": diverges}


def future(daemon: RealDaemon) -> dict[str, int | str]:
    daemon.tfctl("drain", "3", "--reason", "its fan is loud; a new one comes on Monday")
    (waits,) = submit(daemon, "resnet20-ablation", 4, 8, "--env", "AUGMENTATION=none")
    submit(daemon, "nightly-evaluation", 1, 8, "--begin", "22:00")
    submit(daemon, "batch-sweep", 4, 8, "--sweep", "BATCH_SIZE=128,256", "--sweep", "WEIGHT_DECAY=1e-4,5e-4")
    submit(daemon, "export-onnx", 1, 8, "--after", str(waits))
    submit(daemon, "resnet20-adamw", 1, 8, "--env", "OPTIMIZER=adamw", "--hold")
    return {"waits": waits}


def submit(daemon: RealDaemon, name: str, gpu: int, epochs: int, *more: str) -> list[int]:
    """The project on a core for each GPU; `more` are words of the command."""
    (daemon.folder / "small.yaml").write_text(SMALL % epochs)
    words = ("--name", name, "--gpu", str(gpu), "--cpu", str(max(1, gpu)), *more, "--json")
    files = ("-f", "trainforge.yaml", "-f", "../small.yaml")
    said = json.loads(daemon.tfctl("submit", ".", *files, *words, cwd=daemon.folder / "digits").stdout)
    return [job["id"] for job in (said if isinstance(said, list) else [said])]


def view(daemon: RealDaemon, job: int) -> dict[str, Any]:
    known: dict[str, Any] = daemon.get(f"/v1/jobs/{job}")
    return known


def epoch(daemon: RealDaemon, job: int) -> float:
    known = view(daemon, job)
    assert not JobState(known["state"]).ended, known
    return float((known["progress"] or {}).get("epoch") or 0)


def end(daemon: RealDaemon, job: int) -> None:
    wait_until(lambda: JobState(view(daemon, job)["state"]).ended, f"job {job} to end", LONG)


def rank(daemon: RealDaemon, job: int, number: int) -> int:
    """The process of a rank: the oldest that says so."""
    marks = {b"TRAINFORGE_JOB_ID=%d" % job, b"RANK=%d" % number}
    told = {pid: set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")) for pid in daemon.processes()}
    return min(pid for pid, environ in told.items() if marks <= environ)
