"""A training killed at any moment, in the middle of a save above all, continues from a whole checkpoint, and
loses the steps of one interval at most.
"""

from __future__ import annotations

import json
import os
from itertools import pairwise

import pytest

from tests.job.attempt import Attempt
from trainforge.in_job import manifests

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

# One process imports torch, then forks each "attempt" and kills it at a random moment.
KILLS = """
import json, os, pathlib, random, signal, sys, time
import torch, trainforge
from trainforge.in_job import manifests, publishing

INTERVAL = 4

def train(tell):
    tensors = {name: torch.zeros(size) for name, size in (("a", 200_000), ("b", 7), ("c", 30_000))}
    state = {"tensors": tensors, "step": 0}
    ckpt = trainforge.Checkpointer(state=state)
    step = ckpt.resume()
    whole = all(bool((tensor == step).all()) for tensor in state["tensors"].values())
    os.write(tell, json.dumps([step, whole and state["step"] == step]).encode() + b"\\n")
    started = time.perf_counter()
    for _ in range(3 * INTERVAL if tell == 2 else 10**9):
        step += 1
        for tensor in state["tensors"].values():
            tensor.fill_(step)
        state["step"] = step
        trainforge.report(step=step)
        ckpt.save(step, metric=-step, every=INTERVAL)
    ckpt.close()
    return (time.perf_counter() - started) / 6

def told(kind, since):
    lines = records.read_text()[since:].splitlines()
    return [record["step"] for record in map(json.loads, lines) if record["kind"] == kind]

chance = random.Random(7)
torch.set_num_threads(1)
usual = train(tell=2)  # seconds for a save, on this disk and now
records = pathlib.Path(os.environ["TRAINFORGE_ATTEMPT_DIR"], "records-0.jsonl")
lowest = 3 * INTERVAL  # what must not be lost
seen = []
for attempt in range(int(sys.argv[1])):
    os.environ["TRAINFORGE_ATTEMPT_TOKEN"] = f"attempt-{attempt}"
    publishing._run_token.cache_clear()
    before = len(records.read_text())
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
    time.sleep(chance.uniform(0, 2.5 * usual))  # when it dies is what is tried
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    lowest = manifests.newest_whole(os.environ["TRAINFORGE_CHECKPOINT_DIR"], verify=True).step
    reached = max([step, *told("report", before)])
    written = max([step, *told("checkpoint", before)])
    assert lowest >= written, (lowest, written)
    assert reached - lowest <= INTERVAL, (reached, lowest)
    seen.append((step, lowest))
publishing._run_token.cache_clear()
train(tell=2)
print(json.dumps(seen))
"""


def test_killed_at_random_it_always_continues(attempt: Attempt) -> None:
    result = attempt.run([attempt.script(KILLS), 20])
    assert result.code == 0, result.stderr
    seen = json.loads(result.stdout)
    assert len(seen) == 20
    assert seen[-1][1] > seen[0][0], "it did not get on"
    assert all(resumed == before[1] for before, (resumed, _) in pairwise(seen))

    last = seen[-1][1] + 12
    kept = manifests.find_checkpoints(str(attempt.checkpoints))
    assert [manifests.damage(found) for found in kept] == [None] * 4
    assert [found.step for found in kept] == [2, last - 4, last - 2, last], "the best, and the newest three"
    assert len(os.listdir(attempt.checkpoints)) == 4, "nothing half-written is left"
