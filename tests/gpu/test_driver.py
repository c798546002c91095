"""The driver as the daemon sees it: what a GPU is, who uses it, and what goes wrong on it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.daemon.real import wait_until
from tests.gpu.conftest import Machine
from trainforge.states import JobState

GIB = 2**30
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
BUSY = f"""
import os, torch, trainforge
kept = torch.ones(4 * {GIB}, dtype=torch.uint8, device="cuda")
factor = torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda")
step = 0
while not os.path.exists(os.environ["GO"]):
    for _ in range(50):
        factor @ factor
    torch.cuda.synchronize()
    step += 1
    trainforge.report(step=step, devices=torch.cuda.device_count())
"""
OUT_OF_MEMORY = f"""
import torch
rows = [torch.ones({GIB}, dtype=torch.uint8, device="cuda") for _ in range(1000)]
"""
ASSERTED = """
import torch
print(torch.zeros(4, device="cuda")[torch.tensor([10], device="cuda")])
"""
# A kernel that writes where nothing is: the driver logs XID 31.
ASTRAY = """
import torch, triton, triton.language as tl

@triton.jit
def astray(place):
    tl.store((place + 2**40).to(tl.pointer_type(tl.float32)), 1.0)

astray[(1,)](2**46)
torch.cuda.synchronize()
"""
HOLDS = f"""
import sys, torch
kept = torch.ones(4 * {GIB}, dtype=torch.uint8, device="cuda")
torch.cuda.synchronize()
print("holds", flush=True)
sys.stdin.read()
"""
NCCL = """
import torch, torch.distributed as dist
dist.init_process_group("nccl", device_id=torch.device("cuda", 0))
box = torch.ones(1 << 20, device="cuda")
dist.all_reduce(box)
dist.barrier()
print("nccl", int(box.sum()), flush=True)
dist.destroy_process_group()
"""


def asked(*figures: str) -> list[str]:
    """What nvidia-smi says of GPU 0."""
    said = subprocess.run(
        ["nvidia-smi", "--id=0", "--format=csv,noheader,nounits", f"--query-gpu={','.join(figures)}"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return said.stdout.strip().split(", ")


def test_a_gpu_is_what_nvidia_smi_says_it_is(machine: Machine) -> None:
    found = machine.gpu()
    name, uuid, total, limit, driver = asked("name", "uuid", "memory.total", "power.limit", "driver_version")
    assert (found.name, found.uuid, found.simulated) == (name, uuid, False)
    assert found.memory_total // 2**20 == int(total)
    assert found.memory_used is not None
    assert found.memory_used < found.memory_total // 10
    assert found.power_limit is not None
    assert abs(found.power_limit - float(limit)) < 1
    assert found.temperature is not None
    assert 10 < found.temperature < 100
    assert found.utilisation is not None
    assert found.power is not None
    assert name in machine.tfctl("gpus").stdout
    assert f"driver {driver}" in machine.tfctl("doctor", check=False).stdout


def test_a_job_has_the_gpu_for_itself_and_gives_it_back(machine: Machine) -> None:
    go = machine.folder / "go"
    job = machine.submit(BUSY, GO=str(go))
    busy = wait_until(
        lambda: (now := machine.gpu()).utilisation and now.utilisation > 80 and now, "the GPU to be used", 120
    )
    assert (busy.state, busy.job, busy.reason) == ("leased", job, None)
    assert busy.memory_used is not None
    assert busy.memory_used > 4 * GIB
    assert {process.pid for process in busy.processes} <= {*machine.processes()}
    assert busy.processes
    assert busy.processes[0].memory
    go.touch()
    assert machine.wait_for(job).state is JobState.SUCCEEDED
    free = machine.wait_for_gpu()
    assert free.memory_used is not None
    assert free.memory_used < 2 * GIB
    with machine.client() as client:
        (devices,) = client.metrics(job, ["devices"]).series
        assert set(devices.value) == {1.0}


def test_a_job_killed_in_a_kernel_gives_the_gpu_back_and_goes_on(machine: Machine) -> None:
    go = machine.folder / "go"
    job = machine.submit(BUSY, GO=str(go))
    busy = wait_until(lambda: (now := machine.gpu()).processes and now, "it to compute", 120)
    os.kill(busy.processes[0].pid, signal.SIGKILL)
    go.touch()
    ended = machine.wait_for(job)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)
    assert ended.attempts is not None
    assert ended.attempts[0].reason == "killed"
    machine.wait_for_gpu()


def test_a_script_that_asks_for_too_much_is_told_so(machine: Machine) -> None:
    ended = machine.wait_for(machine.submit(OUT_OF_MEMORY))
    assert (ended.state, ended.reason) == (JobState.FAILED, "gpu_out_of_memory")
    assert "CUDA out of memory" in machine.tfctl("why", "1").stdout
    assert machine.wait_for_gpu().reason is None


def test_a_kernel_s_mistake_is_the_script_s_and_the_gpu_stays(machine: Machine) -> None:
    for script in (ASSERTED, ASTRAY):
        ended = machine.wait_for(machine.submit(script))
        why = machine.tfctl("why", str(ended.id)).stdout
        assert (ended.state, ended.reason) == (JobState.FAILED, "user_error"), why
        assert "CUDA error" in why
        assert machine.wait_for_gpu().reason is None


def test_a_gpu_that_a_stranger_uses_is_waited_for(machine: Machine) -> None:
    stranger = machine.foreigner(HOLDS)
    try:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "holds\n"
        assert str(stranger.pid) in (machine.wait_for_gpu("foreign").reason or "")
        job = machine.submit(NCCL)
        wait_until(lambda: _reason(machine, job) == "waiting_for_gpus", "it to wait")
    finally:
        stranger.communicate()
    assert machine.wait_for(job).state is JobState.SUCCEEDED


def test_nccl_runs_in_a_job(machine: Machine) -> None:
    job = machine.submit(NCCL)
    assert machine.wait_for(job).state is JobState.SUCCEEDED, machine.tfctl("why", "1").stdout
    assert f"nccl {1 << 20}" in machine.tfctl("logs", "1").stdout


def test_the_example_of_ddp_runs_on_a_gpu(machine: Machine) -> None:
    job = machine.submit((EXAMPLES / "ddp.py").read_text())
    assert machine.wait_for(job).state is JobState.SUCCEEDED, machine.tfctl("why", "1").stdout


def _reason(machine: Machine, job: int) -> str | None:
    with machine.client() as client:
        return client.job(job).reason
