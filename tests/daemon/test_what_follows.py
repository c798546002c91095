"""What `tfctl why` says of an end: cause, evidence, and what was done about it. Scripts that fail in each way
of the table in docs/recovery.md, under the real daemon."""

from __future__ import annotations

import re

import msgspec
import pytest

from tests.daemon.machines import Machine
from tests.daemon.real import RealDaemon, wait_until
from trainforge.states import JobState

THE_SAME = "not started again: the next attempt would meet the same"
TWICE = "not started again: it failed twice in the same way, with no progress between"


class Failing(msgspec.Struct, frozen=True):
    """A script of one rank that fails, and what is to be said of it."""

    source: str
    reason: str
    attempts: int
    evidence: tuple[str, ...]
    done: str
    advice: str
    arguments: tuple[str, ...] = ()


MEND = "mend it, then: tfctl retry"
TAKES_LR = (
    "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr', type=float)\np.parse_args()\n"
)
FAILING = {
    "an import": Failing(
        "import not_there\n", "user_error", 1,
        ("ModuleNotFoundError: No module named 'not_there'", "rank 0 failed first:", "Traceback"),
        THE_SAME, MEND,
    ),
    "the syntax": Failing(
        "def f(:\n", "user_error", 1, ("SyntaxError: invalid syntax", "def f(:"), THE_SAME, MEND
    ),
    "a missing file": Failing(
        "open('data/train.bin')\n", "user_error", 1,
        ("FileNotFoundError", "'data/train.bin'", "Traceback"), THE_SAME, MEND,
    ),
    "a bad argument": Failing(
        TAKES_LR, "user_error", 1,
        ("rank 0 ended with 2", "argument --lr: invalid float value: 'fast'"),
        THE_SAME, MEND, ("--", "--lr", "fast"),
    ),
    "the same exception twice": Failing(
        "def train():\n    raise ValueError('shapes 3 and 4')\ntrain()\n", "user_error", 2,
        ("ValueError: shapes 3 and 4", "in train", "started again, retry 1 of 3"), TWICE, MEND,
    ),
    "another exception each time": Failing(
        "import time\nraise ValueError(f'at {time.time_ns()}')\n", "user_error", 3,
        ("ValueError: at ", "started again, retry 1 of 2", "retry 2 of 2"),
        "not started again: 2 retries in a row brought no progress (recovery.max_retries)", MEND,
        ("--set", "recovery.max_retries=2", "--set", "recovery.backoff=0.1s"),
    ),
    "the GPU's memory": Failing(
        "raise RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB')\n", "gpu_out_of_memory", 2,
        ("CUDA out of memory. Tried to allocate 2.00 GiB", "Traceback"),
        TWICE, "let it take less (a smaller batch", ("--gpu", "1"),
    ),
    "the machine's memory": Failing(
        "import trainforge\ntrainforge.report(step=3)\nbytearray(1 << 60)\n", "out_of_memory", 1,
        ("MemoryError", "last progress: step 3, at "),
        "not started again: the same would take as much memory", "tfctl retry {id} --set resources.memory=…",
    ),
}  # fmt: skip


def test_what_failed_why_and_what_was_done(daemon: RealDaemon) -> None:
    for number, (name, failing) in enumerate(FAILING.items(), 1):
        script = daemon.folder / f"train-{number}.py"
        script.write_text(failing.source)
        words = failing.arguments if "--gpu" in failing.arguments else ("--gpu", "0", *failing.arguments)
        daemon.tfctl("submit", script.name, *words)
        ended = daemon.wait_for(number)
        assert (ended.state, ended.reason) == (JobState.FAILED, failing.reason), name
        assert ended.attempt == failing.attempts, name
        said = daemon.tfctl("why", str(number)).stdout
        for words_of_it in (*failing.evidence, failing.done, failing.advice.format(id=number)):
            assert words_of_it in said, (name, said)


PROGRESSES = """
import os, trainforge
attempt = int(os.environ["TRAINFORGE_ATTEMPT"])
trainforge.report(step=attempt)
if attempt < 5:
    raise ValueError("always")
"""


def test_progress_between_crashes_resets_the_count(daemon: RealDaemon) -> None:
    (daemon.folder / "train.py").write_text(PROGRESSES)
    daemon.tfctl("submit", "train.py", "--gpu", "0", "--set", "recovery.max_retries=1")
    ended = daemon.wait_for(1)
    assert (ended.state, ended.attempt, ended.retries) == (JobState.SUCCEEDED, 5, 4)
    said = daemon.tfctl("why", "1").stdout
    assert said.count("started again, retry 1 of 1") == 4, said


FAULTS = (
    "CUDA error: uncorrectable ECC error encountered",
    "CUDA error: unknown error",
    "NVML_ERROR_GPU_IS_LOST",
)


@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_that_means_a_broken_gpu_sets_it_aside_and_counts_as_no_retry(
    machine: Machine, fault: str
) -> None:
    job = machine.running()
    machine.fail(fault)
    ended = machine.daemon.wait_for(job)
    assert (ended.state, ended.attempt, ended.retries) == (JobState.SUCCEEDED, 2, 0)
    assert ended.attempts is not None
    first, second = ended.attempts
    assert first.reason == "gpu_fault"
    assert first.gpus != second.gpus
    wait_until(lambda: machine.gpu(0).state == "set_aside", "it to be set aside")
    said = machine.daemon.tfctl("why", str(job)).stdout
    assert re.search(rf"1: gpu_fault, .*{re.escape(fault)}", said), said
    assert "its GPU was set aside; started again, not counted as a retry" in said
    assert fault in machine.daemon.tfctl("gpus").stdout


DIVERGES = """
import time, trainforge
trainforge.report(step=1, loss=float("nan"))
time.sleep(600)
"""


def test_what_is_to_be_said_against_a_job_that_runs(daemon: RealDaemon) -> None:
    (daemon.folder / "train.py").write_text(DIVERGES)
    daemon.tfctl("submit", "train.py", "--gpu", "0")
    with daemon.client() as client:
        wait_until(lambda: [e for e in client.events(job=1) if e.type == "loss_not_finite"], "the warning")
    said = daemon.tfctl("why", "1").stdout
    assert said == "job 1 (train) runs (attempt 1)\nbut: rank 0 reported loss = nan at step 1\n"
    daemon.tfctl("cancel", "--now", "1")
