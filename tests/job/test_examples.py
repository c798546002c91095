"""The examples in docs/: stopped in the middle, and continued, each ends where an undisturbed run ends."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import socket
from pathlib import Path

import pytest

from tests.job.attempt import Attempt, Result
from trainforge import protocol
from trainforge.in_job import manifests

pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.timeout(300)]

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
NEEDS = {"hugging_face.py": ("transformers", "accelerate"), "lightning_callback.py": ("lightning",)}
LOOPS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            not all(importlib.util.find_spec(package) for package in NEEDS.get(name, ())),
            reason=f"needs {' and '.join(NEEDS.get(name, ()))}",
        ),
    )
    for name in ("plain.py", "hugging_face.py", "lightning_callback.py")
]


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


def weights(result: Result) -> str:
    assert result.code == 0, result.stderr
    return re.findall(r"sum of weights (\S+)", result.stdout)[-1]


@pytest.mark.parametrize("name", LOOPS)
def test_an_example_that_was_stopped_ends_as_one_that_was_not(attempt: Attempt, name: str) -> None:
    undisturbed = {protocol.CHECKPOINT_DIR: str(attempt.folder / "undisturbed")}
    whole = attempt.run([EXAMPLES / name], env=attempt.env | undisturbed)

    first = attempt.run([attempt.script(STOPPED), EXAMPLES / name, 3])
    assert first.code == 0, first.stderr
    assert attempt.records("stopping")
    newest = manifests.newest_whole(str(attempt.checkpoints), verify=True)
    assert newest is not None

    assert weights(attempt.run([EXAMPLES / name])) == weights(whole)
    assert attempt.records("resumed")[0]["step"] == newest.step
    assert any("loss" in record["metrics"] for record in attempt.records("report"))


def test_two_ranks_stop_at_one_step_and_one_rank_goes_on(attempt: Attempt) -> None:
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = attempt.env | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    stopped = [attempt.script(STOPPED), EXAMPLES / "ddp.py"]
    two = [
        attempt.start([*stopped, last], env | {"WORLD_SIZE": "2", "RANK": rank})
        for rank, last in (("0", 0), ("1", 5))  # the second is asked
    ]
    ended = [(rank.communicate(timeout=100), rank.returncode) for rank in two]
    assert [code for _, code in ended] == [0, 0], ended
    newest = manifests.newest_whole(str(attempt.checkpoints), verify=True)
    assert newest is not None
    assert newest.world_size == 2
    assert newest.step == 5

    result = attempt.run([EXAMPLES / "ddp.py"], env)
    assert result.code == 0, result.stderr
    assert attempt.records("resumed")[-1]["step"] == 5
    assert attempt.records("report")[-1]["step"] == 60
