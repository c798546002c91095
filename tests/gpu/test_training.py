"""The training project on a real GPU, through the real daemon."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.real import wait_until
from tests.gpu.conftest import TRAINING, Machine
from tests.training.runs import differences, weights_and_progress
from trainforge.api import JobView
from trainforge.states import JobState

pytestmark = pytest.mark.timeout(600)

IMAGES = 20_000
# Waits for the file, then trains. What it allocated before is nothing.
LATER = """
import os, runpy, time
while not os.path.exists(os.environ["GO"]):
    time.sleep(0.02)
runpy.run_path("train.py", run_name="__main__")
"""
# Leaves two GiB of the GPU to others.
GREEDY = """
import sys, torch
free, total = torch.cuda.mem_get_info()
kept = torch.ones(free - 2 * 2**30, dtype=torch.uint8, device="cuda")
torch.cuda.synchronize()
print("holds", flush=True)
sys.stdin.read()
"""

# Ten steps between two reports, of which none may wait for the GPU.
STEPS = """
import sys
sys.path.insert(0, "training")
import torch
from benchmarks.programs.resnet_loop import make_trainer

trainer, step = make_trainer("resnet18", 64, images=3200, AUGMENTATION="heavy", MIXUP="0.2", EMA="0.99")
for _ in range(10):
    step()
torch.cuda.synchronize()
torch.cuda.set_sync_debug_mode("error")
for _ in range(9):
    trainer.step()
"""


@pytest.fixture
def project(machine: Machine) -> Path:
    from tests.training.pictures import write_cifar100

    folder = machine.folder / "project"
    shutil.copytree(TRAINING, folder, ignore=shutil.ignore_patterns("data", "__pycache__", "configs"))
    (folder / "later.py").write_text(LATER)
    write_cifar100(machine.folder, images=IMAGES)
    return folder


def submit(machine: Machine, project: Path, script: str = "train.py", **knobs: object) -> None:
    lines = "".join(f"  {name}: {value}\n" for name, value in knobs.items())
    (project / "trainforge.yaml").write_text(
        f"project: {{name: real}}\ntraining: {{script: {script}}}\nresources: {{gpu: 1}}\n"
        f"recovery: {{backoff: 0.1s}}\nenv:\n  DATA_DIR: {machine.folder}\n  AUGMENTATION: heavy\n{lines}"
    )
    machine.tfctl("submit", cwd=project)


def ended(machine: Machine, number: int = 1) -> JobView:
    with machine.client() as client:
        job = client.wait(number, 500)
    assert job.state is JobState.SUCCEEDED, machine.tfctl("why", str(number)).stdout
    return job


def learned(machine: Machine, number: int) -> dict[str, Any]:
    """What the newest checkpoint of a job holds, but for the clock."""
    import torch

    newest = max((machine.state_dir / "jobs" / str(number) / "checkpoints").glob("step-*"))
    return weights_and_progress(torch.load(newest / "state.pt", weights_only=True, map_location="cpu"))


def log(machine: Machine, attempt: int = 1) -> str:
    return machine.tfctl("logs", "1", "--attempt", str(attempt)).stdout


def test_a_killed_training_ends_with_the_bits_of_one_that_was_not(machine: Machine, project: Path) -> None:
    knobs = {
        "BATCH_SIZE_PER_GPU": 128,
        "EPOCHS": 4,
        "CHECKPOINT_INTERVAL": "20 steps",
        "EMA": 0.99,
        "MIXUP": 0.2,
        "DETERMINISTIC": True,
    }
    submit(machine, project, MODEL="resnet18", **knobs)

    def saved() -> bool:
        with machine.client() as client:
            return bool(client.path(1).checkpoints)

    wait_until(saved, "a checkpoint", 200)
    (rank, *_) = wait_until(lambda: machine.gpu().processes, "it to be seen on the GPU")
    os.kill(rank.pid, signal.SIGKILL)
    job = ended(machine)
    assert (job.attempt, job.retries) == (2, 1)
    assert job.attempts is not None
    assert job.attempts[1].resumed_from is not None
    with machine.client() as client:
        loss, memory = (client.metrics(1, [name]).series[0] for name in ("loss", "gpu_memory"))
    assert loss.step == tuple(sorted(set(loss.step)))
    assert loss.step[-1] == 4 * (IMAGES // 128)
    assert min(map(float, memory.value)) > 2**28
    submit(machine, project, MODEL="resnet18", **knobs)
    assert ended(machine, 2).attempt == 1
    assert differences(learned(machine, 1), learned(machine, 2)) == []


def test_a_killed_training_is_compiled_and_recorded_again_or_plain_again(
    machine: Machine, project: Path
) -> None:
    """Whatever the trial says here: the job goes on as it began, and learns."""
    knobs = {"BATCH_SIZE_PER_GPU": 128, "EPOCHS": 10, "CHECKPOINT_INTERVAL": "100 steps", "EMA": 0.99}
    submit(machine, project, MODEL="resnet18", **knobs)

    def saved() -> bool:
        with machine.client() as client:
            return bool(client.path(1).checkpoints)

    wait_until(saved, "a checkpoint", 400)
    (rank, *_) = wait_until(lambda: machine.gpu().processes, "it to be seen on the GPU")
    os.kill(rank.pid, signal.SIGKILL)
    assert ended(machine).attempt == 2
    first, second = (
        re.search(r"^ *COMPILE +(\w+) +(.*)$", log(machine, attempt), re.MULTILINE) for attempt in (1, 2)
    )
    assert first, log(machine)
    assert second, log(machine, 2)
    assert (second[1], second[2]) == (first[1], "checkpoint")
    assert learned(machine, 1)["progress"]["compiled"] is (first[1] == "true")
    assert "its step was not the plain one" not in log(machine), "torch's own must pass the trial"


def test_no_step_waits_for_the_gpu(tmp_path: Path) -> None:
    env = os.environ | {"BENCHMARK_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", STEPS], cwd=TRAINING.parent, env=env, check=True, timeout=300)


def test_a_batch_that_does_not_fit_is_taken_in_parts(machine: Machine, project: Path) -> None:
    submit(
        machine, project, MODEL="resnet50", BATCH_SIZE_PER_GPU=16384, MAX_STEPS=3, EPOCHS=9, REPORT_INTERVAL=1
    )
    assert ended(machine).attempt == 1, "one rank learns it while it trains"
    said = re.findall(r"out of memory with (\d+) images at once: (\d+) from now on", log(machine))
    assert said
    assert said[0] == ("16384", "8192")
    assert "the batch stays 16384" in log(machine)


def test_the_largest_batch_that_fits_is_found(machine: Machine, project: Path) -> None:
    submit(machine, project, MODEL="resnet18", BATCH_SIZE="auto", MAX_STEPS=2, EPOCHS=9)
    assert ended(machine).attempt == 1
    assert re.search(r"^ *BATCH_SIZE_PER_GPU +\d{3,5} ", log(machine), re.MULTILINE), log(machine)


def test_memory_that_a_stranger_took_is_waited_for_and_the_parts_stay(
    machine: Machine, project: Path
) -> None:
    submit(
        machine,
        project,
        "later.py",
        MODEL="resnet50",
        BATCH_SIZE_PER_GPU=1024,
        MAX_STEPS=3,
        GO=machine.folder / "go",
    )
    machine.wait_for(1, JobState.RUNNING)
    stranger = machine.foreigner(GREEDY)
    try:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "holds\n"
        wait_until(lambda: str(stranger.pid) in (machine.gpu().reason or ""), "the stranger to be seen")
        (machine.folder / "go").touch()

        def waits() -> bool:
            with machine.client() as client:
                return client.job(1).reason == "waiting_for_gpus"

        wait_until(waits, "the job to wait for room", 120)
    finally:
        stranger.communicate()
    job = ended(machine)
    assert job.attempts is not None
    assert (job.attempts[0].reason, job.attempt, job.retries) == ("gpu_memory_taken", 2, 0)
    assert "images at once" not in log(machine, 1) + log(machine, 2)
