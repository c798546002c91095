"""A GPU runs out of memory in the middle of a training: the next attempt takes half as many images at once,
in twice the parts, and the batch stays; unless another process took the memory, which is waited for."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.daemon.machines import Machine
from tests.daemon.real import RealDaemon, wait_until
from trainforge.states import JobState

pytest.importorskip("torch", reason="torch is not installed")

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]

TRAINING = Path(__file__).parents[2] / "training"
STEPS, SAVED = 6, 3  # the fourth step is the one that fails
JOB_FILE = """\
project: {name: small-gpu}
training: {script: on_a_small_gpu.py}
resources: {gpu: 2}
env:
  MODEL: resnet20
  BATCH_SIZE: 16
  EPOCHS: 2
  MAX_STEPS: 6
  CHECKPOINT_INTERVAL: 1 step
  REPORT_INTERVAL: 1
  TENSORBOARD: true
"""
# Memory gets scarce after three steps, on one of the GPUs: from then on it holds four images.
SMALL_GPU = """\
import os, runpy
import torch

seen = 0

def check(module, given):
    global seen
    if isinstance(module, torch.nn.Linear) and module.training:
        seen += 1
        if seen > 3 and len(given[0]) > 4:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

if os.environ["RANK"] == "1":
    torch.nn.modules.module.register_module_forward_pre_hook(check)
runpy.run_path("train.py", run_name="__main__")
"""


# Another process takes nearly all of the GPU's memory after three steps of the first attempt.
SHARED_GPU = """\
import os, runpy, time
import torch

seen = 0

def check(module, given):
    global seen
    if isinstance(module, torch.nn.Linear) and module.training:
        seen += 1
        if seen > 3:
            while not os.path.exists(os.environ["TAKEN"]):
                time.sleep(0.01)
            torch.cuda.is_available = lambda: True
            torch.cuda.mem_get_info = lambda: (1 << 30, 80 << 30)
            torch.cuda.memory_reserved = lambda: 10 << 30
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

if os.environ["TRAINFORGE_ATTEMPT"] == "1":
    torch.nn.modules.module.register_module_forward_pre_hook(check)
runpy.run_path("train.py", run_name="__main__")
"""


def knob(log: str, name: str) -> str:
    """A line of the table of settings: value and source."""
    found = re.search(rf"^(?:\[rank0\] )?  {name} +(.*)$", log, re.MULTILINE)
    assert found, log
    return found[1]


def project_in(folder: Path, job_file: str, script: str) -> Path:
    """The training project, and pictures for it, with a script of our own around its own."""
    from tests.training.pictures import write_cifar100

    project = folder / "project"
    shutil.copytree(TRAINING, project, ignore=shutil.ignore_patterns("data", "__pycache__", "configs"))
    (project / "trainforge.yaml").write_text(job_file)
    (project / "on_a_small_gpu.py").write_text(script)
    write_cifar100(folder)
    return project


def test_the_next_attempt_takes_half_as_many_images_at_once(daemon: RealDaemon) -> None:
    project = project_in(daemon.folder, JOB_FILE, SMALL_GPU)
    daemon.tfctl("submit", "--env", f"DATA_DIR={daemon.folder}", cwd=project)

    with daemon.client() as client:
        ended = client.wait(1, 500)
        assert ended.attempts is not None
        assert ended.state is JobState.SUCCEEDED, daemon.tfctl("why", "1").stdout
        assert [one.reason for one in ended.attempts] == ["gpu_out_of_memory", "succeeded"], ended.attempts
        second = ended.attempts[-1]
        assert second.resumed_from is not None
        assert int(second.resumed_from[-1]) in (SAVED - 1, SAVED), "the last save may not have been whole yet"
        (series,) = client.metrics(1, ["loss"]).series
        assert series.step == tuple(range(1, STEPS + 1)), "one unbroken curve, beside TensorBoard's files"
        assert [*(daemon.state_dir / "jobs" / "1" / "project" / "tensorboard").glob("events.*")]

    before, after = (daemon.tfctl("logs", "1", "--attempt", number).stdout for number in ("1", "2"))
    said = "rank 1: out of memory with 8 images at once: 4 in the next attempt, in twice the parts"
    assert f"{said}; the batch stays 16" in daemon.tfctl("logs", "1", "--attempt", "1", "--rank", "1").stdout
    assert knob(before, "BATCH_SIZE").startswith("16 ")
    assert knob(after, "BATCH_SIZE").startswith("16 ")
    assert knob(after, "BATCH_SIZE_PER_GPU").split(maxsplit=1) == ["4", "memory: 128 at once did not fit"]


def test_memory_that_another_process_took_leaves_the_parts_as_they_are(machine: Machine) -> None:
    daemon, taken = machine.daemon, machine.daemon.folder / "taken"
    project = project_in(daemon.folder, JOB_FILE.replace("gpu: 2", "gpu: 1"), SHARED_GPU)
    machine.daemon.tfctl("drain", "1")  # so that it has to wait for the other
    daemon.tfctl("submit", "--env", f"DATA_DIR={daemon.folder}", "--env", f"TAKEN={taken}", cwd=project)
    daemon.wait_for(1, JobState.RUNNING)
    machine.say(used=70000, compute=f"{os.getpid()}:70000")
    wait_until(lambda: str(os.getpid()) in (machine.gpu(0).reason or ""), "the other to be seen")
    taken.touch()
    wait_until(lambda: machine.job(1).reason == "waiting_for_gpus", "it to wait for room", deadline=300)
    machine.say()
    with daemon.client() as client:
        ended = client.wait(1, 500)
        (series,) = client.metrics(1, ["loss"]).series
    assert ended.attempts is not None
    assert (ended.state, ended.retries) == (JobState.SUCCEEDED, 0), daemon.tfctl("why", "1").stdout
    first, second = ended.attempts
    assert (first.reason, second.reason) == ("gpu_memory_taken", "succeeded")
    assert second.resumed_from is not None
    assert series.step == tuple(range(1, STEPS + 1))
    before, after = (daemon.tfctl("logs", "1", "--attempt", number).stdout for number in ("1", "2"))
    assert "other processes hold 69.0 GiB of the GPU: the batch is not to blame" in before
    assert "images at once" not in before + after
    assert knob(before, "BATCH_SIZE_PER_GPU") == knob(after, "BATCH_SIZE_PER_GPU")
