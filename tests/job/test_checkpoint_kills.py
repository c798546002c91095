"""A training killed at any moment, in the middle of a save above all, continues from a whole checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.job.attempt import Attempt
from trainforge import manifests

pytestmark = pytest.mark.torch

# One process imports torch, then forks each "attempt" and kills it at a random moment.
KILLS = """
import json, os, random, select, signal, sys, time
import torch, trainforge
from trainforge import manifests

def train(tell):
    tensors = {name: torch.zeros(size) for name, size in (("a", 200_000), ("b", 7), ("c", 30_000))}
    state = {"tensors": tensors, "step": 0}
    ckpt = trainforge.Checkpointer(state=state)
    step = ckpt.resume()
    whole = all(bool((tensor == step).all()) for tensor in state["tensors"].values()) and state["step"] == step
    os.write(tell, json.dumps([step, whole]).encode() + b"\\n")
    while True:
        step += 1
        for tensor in state["tensors"].values():
            tensor.fill_(step)
        state["step"] = step
        ckpt.save(step, metric=-step)

chance = random.Random(7)
torch.set_num_threads(1)
lowest = 0  # what must not be lost
seen = []
for attempt in range(int(sys.argv[1])):
    os.environ["TRAINFORGE_ATTEMPT_TOKEN"] = f"attempt-{attempt}"
    reader, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            train(tell)
        finally:
            os._exit(1)
    os.close(tell)
    step, whole = json.loads(os.fdopen(reader).readline() or "[-1, false]")
    assert whole and step >= lowest, (step, whole, lowest)
    time.sleep(chance.uniform(0, 0.06))  # when it dies is what is tried
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    newest = manifests.newest_whole(os.environ["TRAINFORGE_CHECKPOINT_DIR"], verify=True)
    assert newest is not None or lowest == 0
    lowest = newest.step if newest else 0
    seen.append((step, lowest, len(os.listdir(os.environ["TRAINFORGE_CHECKPOINT_DIR"]))))
print(json.dumps(seen))
"""


def test_killed_at_random_it_always_continues(attempt: Attempt) -> None:
    result = attempt.run([attempt.script(KILLS), 40])
    assert result.code == 0, result.stderr
    seen = json.loads(result.stdout)
    assert len(seen) == 40
    assert seen[-1][1] > 40, "it did not get on"
    assert all(resumed == before[1] for before, (resumed, *_) in zip(seen, seen[1:], strict=False))
    assert max(folders for *_, folders in seen) <= 6  # three, the best, one being written, one being removed
    published = {record["step"] for record in attempt.records("checkpoint")}
    kept = [found for found in manifests.find_checkpoints(str(attempt.checkpoints)) if not found.problem]
    assert len(published) > 20
    assert all(manifests.damage(found) is None for found in kept)
    assert min(published) == 1
    assert Path(kept[0].path).name == "step-0000000001", "the best is kept through all of it"
