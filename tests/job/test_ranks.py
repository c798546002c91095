"""Two ranks through torch.distributed.run: stopped together, saved together, continued by another number."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import Any

import pytest

from tests.job.attempt import Attempt, eventually
from trainforge.in_job import manifests

torch = pytest.importorskip("torch")
from trainforge import Checkpointer  # noqa: E402  # needs torch

pytestmark = [pytest.mark.torch, pytest.mark.timeout(300)]

SCRIPT = """
import json, os, pathlib
import torch, trainforge
import torch.distributed as dist

class Samples(torch.utils.data.Dataset):
    def __len__(self): return 1_000_000
    def __getitem__(self, index): return torch.full((4,), float(index % 7))

def main():
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(rank)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    ckpt = trainforge.Checkpointer(model=model, optimizer=optimizer)
    start = step = ckpt.resume()
    loader = torch.utils.data.DataLoader(Samples(), batch_size=2, num_workers=1)
    batches = iter(loader)
    while True:
        loss = model(next(batches)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        trainforge.report(step=step, loss=loss)
        if step == 20 + start:
            pathlib.Path(f"up-{rank}").write_text(str(os.getpid()))
        if trainforge.should_stop():
            break
    next(batches)  # the workers are there still
    ckpt.save(step)
    ckpt.close()
    weights = model.module.weight.flatten().tolist()
    pathlib.Path(f"left-{rank}").write_text(json.dumps([start, step, weights, torch.initial_seed()]))
    dist.destroy_process_group()

if __name__ == "__main__":
    main()
"""


def start(attempt: Attempt) -> subprocess.Popen[str]:
    """The launcher, when both ranks train."""
    launcher = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "--max-restarts=0",
        "-m",
        "--",
    ]
    env = {name: value for name, value in attempt.env.items() if name not in ("RANK", "WORLD_SIZE")}
    process = attempt.start([*launcher, "trainforge.rank", attempt.script(SCRIPT)], env)
    eventually(lambda: process.poll() is not None or all(pids(attempt)), "both ranks train", 200)
    return process


def pids(attempt: Attempt) -> list[int]:
    files = [attempt.folder / f"up-{rank}" for rank in (0, 1)]
    return [int(path.read_text() or 0) if path.exists() else 0 for path in files]


def left(attempt: Attempt) -> list[list[Any]]:
    """What each rank says at its end: [start, step, weights, seed]."""
    return [json.loads((attempt.folder / f"left-{rank}").read_text()) for rank in (0, 1)]


def test_a_stop_of_the_launcher_is_a_save_of_all_ranks(in_attempt: Attempt) -> None:
    """The launcher signals process groups; torch's data-loader workers would die of it."""
    process = start(in_attempt)
    process.terminate()
    _, stderr = process.communicate(timeout=60)
    first, second = left(in_attempt)
    assert first[:3] == second[:3], stderr
    assert [in_attempt.status(rank)["exit_code"] for rank in (0, 1)] == [0, 0]
    assert [len(in_attempt.records("stopping", rank)) for rank in (0, 1)] == [1, 1]

    newest = manifests.newest_whole(str(in_attempt.checkpoints), verify=True)
    assert newest is not None
    assert (newest.step, newest.world_size) == (first[1], 2)
    assert [file.name for file in newest.files] == ["state.pt", "rank-0.pt", "rank-1.pt"]

    model = torch.nn.Linear(4, 2)  # one rank, no DDP
    assert (
        Checkpointer(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=1.0)).resume() == first[1]
    )
    assert model.weight.flatten().tolist() == first[2]
    assert torch.initial_seed() == 0


def test_a_stop_of_one_rank_stops_all_at_the_same_step(attempt: Attempt) -> None:
    process = start(attempt)
    os.kill(pids(attempt)[1], signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    first, second = left(attempt)
    assert first[:3] == second[:3]
    assert (first[3], second[3]) == (0, 1)
    assert attempt.records("checkpoint")[0]["step"] == first[1]
    assert attempt.records("checkpoint", rank=1) == []
    newest = manifests.newest_whole(str(attempt.checkpoints), verify=True)
    assert newest is not None
    os.truncate(os.path.join(newest.path, "rank-1.pt"), 10)
    assert manifests.newest_whole(str(attempt.checkpoints), verify=False) is None
