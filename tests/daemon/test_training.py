"""Distributed training through the real daemon: ranks and daemons are killed, the curve stays whole."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.daemon.real import RealDaemon, wait_until
from trainforge.client.client import Client
from trainforge.states import JobState

pytest.importorskip("torch", reason="torch is not installed")

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]  # importing torch on a busy machine takes long

JOB_FILE = """\
project:
  name: tiny
training:
  script: train.py
resources:
  gpu: 2
"""
SCRIPT = """\
import os, time, torch, trainforge
import torch.distributed as dist

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
checkpoints = trainforge.Checkpointer(model=model, optimizer=optimizer)
STEPS = 60
for step in range(checkpoints.resume(), STEPS):
    inputs = torch.ones(8, 4) * (rank + 1)
    loss = (model(inputs) - 1).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    trainforge.report(step=step + 1, steps=STEPS, loss=loss.item())
    if (step + 1) % 5 == 0:
        checkpoints.save(step + 1)
    if trainforge.should_stop():
        checkpoints.save(step + 1)
        break
    while step + 1 == 20 and not os.path.exists(os.environ["GO"]):
        time.sleep(0.02)
print("rank", rank, "is done", flush=True)
checkpoints.close()
dist.destroy_process_group()
"""


@pytest.fixture
def job(daemon: RealDaemon) -> int:
    """A two-rank training that waits at step 20 for the file `go`."""
    return submit(daemon)


def submit(daemon: RealDaemon) -> int:
    folder = daemon.folder / "tiny"
    folder.mkdir(exist_ok=True)
    (folder / "trainforge.yaml").write_text(JOB_FILE)
    (folder / "train.py").write_text(SCRIPT)
    return int(daemon.tfctl("submit", cwd=folder, GO=str(daemon.folder / "go")).stdout.split()[2])


def reached(client: Client, job: int, step: int) -> bool:
    progress = client.job(job).progress
    return progress is not None and (progress.step or 0) >= step


def rank_pids(daemon: RealDaemon) -> list[int]:
    """The ranks: under a launcher each is the child of a keeper with the same command line."""

    def parent(pid: int) -> int | None:
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:3] != [b"-m", b"trainforge.rank"]:
                return None
            return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return None

    parents = {pid: above for pid in daemon.processes() if (above := parent(pid)) is not None}
    return sorted(pid for pid, above in parents.items() if above in parents)


def steps_of(client: Client, job: int) -> tuple[float, ...]:
    (series,) = client.metrics(job, ["loss"]).series
    return series.step


def test_a_killed_rank_costs_the_steps_since_the_last_checkpoint_and_no_more(
    daemon: RealDaemon, job: int
) -> None:
    took = kill_a_rank(daemon, job)
    while took >= 2.0 and job < 3:  # where somebody else had the machine, again
        (daemon.folder / "go").unlink()
        job = submit(daemon)
        took = kill_a_rank(daemon, job)
    assert took < 2.0


def kill_a_rank(daemon: RealDaemon, job: int) -> float:
    """How many seconds the other one lived on."""
    with daemon.client() as client:
        wait_until(lambda: reached(client, job, 20), "step 20", 200)
        wait_until(lambda: client.path(job).checkpoints[-1].step == 20, "its checkpoint")
        ranks = rank_pids(daemon)
        assert len(ranks) == 2
        began = time.monotonic()
        os.kill(ranks[-1], signal.SIGKILL)
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in ranks), "both ranks to be gone")
        took = time.monotonic() - began
        (daemon.folder / "go").touch()
        ended = client.wait(job, 200)
        assert (ended.state, ended.attempt, ended.retries) == (JobState.SUCCEEDED, 2, 1)
        assert ended.attempts is not None
        first, second = ended.attempts
        assert (first.reason, first.ranks[0].signal) == ("killed", 9)
        assert second.resumed_from is not None
        assert second.resumed_from.endswith("step-0000000020")
        assert steps_of(client, job) == tuple(range(1, 61)), "one unbroken curve"
    assert daemon.tfctl("logs", str(job), "--rank", "1").stdout == "rank 1 is done\n"
    assert "[rank0] rank 0 is done" in daemon.tfctl("logs", str(job)).stdout
    return took


def test_training_goes_on_while_the_daemon_is_dead(daemon: RealDaemon, job: int) -> None:
    with daemon.client() as client:
        wait_until(lambda: reached(client, job, 20), "step 20", 200)
        ranks = rank_pids(daemon)
        daemon.kill()
        (daemon.folder / "go").touch()
        records = daemon.state_dir / "jobs" / "1" / "attempts" / "1" / "records-0.jsonl"
        wait_until(lambda: '"step":60' in records.read_text().replace(" ", ""), "the last step", 200)
        daemon.start()
        ended = client.wait(job, 200)
        assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 1)
        assert steps_of(client, job) == tuple(range(1, 61))
    assert len(ranks) == 2


def test_a_held_training_saves_frees_its_gpus_and_goes_on(daemon: RealDaemon, job: int) -> None:
    with daemon.client() as client:
        wait_until(lambda: reached(client, job, 20), "step 20", 200)
        client.hold(job)
        (daemon.folder / "go").touch()
        held = daemon.wait_for(job, JobState.HELD)
        assert held.gpus == () or held.state is JobState.HELD
        wait_until(lambda: {gpu.state for gpu in client.gpus().gpus} == {"free"}, "its GPUs to be free")
        newest = client.path(job).checkpoints[-1].step
        assert newest is not None
        assert newest >= 20
        client.release(job)
        ended = client.wait(job, 200)
        assert (ended.state, ended.attempt, ended.retries) == (JobState.SUCCEEDED, 2, 0)
        assert steps_of(client, job) == tuple(range(1, 61))
