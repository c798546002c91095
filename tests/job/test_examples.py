"""The examples in docs/: stopped in the middle, and continued, each ends where an undisturbed run ends."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.job.attempt import Attempt
from tests.support import free_port
from trainforge.in_job import manifests

pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
DEADLINE = 400.0  # seconds: importing transformers, or lightning, on a busy machine takes long
LOOPS = {
    "plain.py": "import torch",
    "accelerate_loop.py": "import accelerate",
    "hugging_face.py": "from transformers import Trainer, TrainerCallback, TrainingArguments",
    "lightning_callback.py": "import lightning",
}

# Runs an example that is asked to stop, as by the daemon, while it makes a certain report.
STOPPED = """
import os, runpy, signal, sys
import trainforge

report, count, last = trainforge.report, 0, int(sys.argv[2])

def and_stop(**numbers):
    global count
    report(**numbers)
    count += 1
    if count == last:
        os.kill(os.getpid(), signal.SIGTERM)

trainforge.report = and_stop
runpy.run_path(sys.argv[1], run_name="__main__")
"""
# An example undisturbed, stopped at its third report, and continued: from one process that has imported what
# takes long, and is forked for each.
THRICE = """
import os, runpy, sys
exec(sys.argv[3])

def run(script, name, checkpoints):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        import torch
        torch.set_num_threads(1)
        os.environ["TRAINFORGE_CHECKPOINT_DIR"] = checkpoints
        os.dup2(os.open(f"{name}.out", os.O_WRONLY | os.O_CREAT), 1)
        sys.argv = [script, sys.argv[2], "3"]
        runpy.run_path(script, run_name="__main__")
        os._exit(sys.stdout.flush() or 0)
    assert os.waitpid(pid, 0)[1] == 0, name

stopped, example = sys.argv[1:3]
kept = os.environ["TRAINFORGE_CHECKPOINT_DIR"]
run(example, "whole", "undisturbed")
run(stopped, "stopped", kept)
os.rename("records-0.jsonl", "records-before.jsonl")
run(example, "continued", kept)
"""


def weights(output: str) -> str:
    return re.findall(r"sum of weights (\S+)", output)[-1]


@pytest.mark.parametrize("name", LOOPS)
def test_an_example_that_was_stopped_ends_as_one_that_was_not(attempt: Attempt, name: str) -> None:
    stopped = attempt.script(STOPPED, "stopped.py")
    result = attempt.run([attempt.script(THRICE), stopped, EXAMPLES / name, LOOPS[name]], deadline=DEADLINE)
    assert result.code == 0, result.stderr

    before = (attempt.folder / "records-before.jsonl").read_text()
    assert '"kind":"stopping"' in before
    (resumed,) = attempt.records("resumed")
    reports = attempt.records("report")
    assert resumed["step"] < max(record.get("epoch", record.get("step")) for record in reports)
    assert any("loss" in record["metrics"] for record in reports)
    whole, continued = ((attempt.folder / f"{run}.out").read_text() for run in ("whole", "continued"))
    assert weights(continued) == weights(whole)
    newest = manifests.newest_whole(str(attempt.checkpoints), verify=True)
    assert newest is not None
    assert newest.step > resumed["step"]


def test_two_ranks_stop_at_one_step_and_one_rank_goes_on(attempt: Attempt) -> None:
    env = attempt.env | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    stopped = [attempt.script(STOPPED), EXAMPLES / "ddp.py"]
    two = [
        attempt.start([*stopped, last], env | {"WORLD_SIZE": "2", "RANK": rank})
        for rank, last in (("0", 0), ("1", 5))  # the second is asked
    ]
    ended = [(rank.communicate(timeout=DEADLINE), rank.returncode) for rank in two]
    assert [code for _, code in ended] == [0, 0], ended
    newest = manifests.newest_whole(str(attempt.checkpoints), verify=True)
    assert newest is not None
    assert newest.world_size == 2
    assert newest.step == 5

    result = attempt.run([EXAMPLES / "ddp.py"], env)
    assert result.code == 0, result.stderr
    assert attempt.records("resumed")[-1]["step"] == 5
    assert attempt.records("report")[-1]["step"] == 60
