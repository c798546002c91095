"""Other people's training loops through the real daemon: killed in the middle, each goes on by itself and
ends with the weights of a run that nobody disturbed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.daemon.real import RealDaemon
from trainforge.states import JobState

pytest.importorskip("torch", reason="torch is not installed")

pytestmark = [pytest.mark.torch, pytest.mark.timeout(900)]  # what they import takes long on a busy machine

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
DEADLINE = 400.0
# In the first attempt, the rank with the highest number kills itself once training has come to the given step
# (or epoch) and there is a whole checkpoint.
KILLED_ONCE = """
import glob, os, runpy, signal, sys, time
import trainforge

example, last = sys.argv[1], int(sys.argv[2])
report, saved = trainforge.report, os.environ["TRAINFORGE_CHECKPOINT_DIR"] + "/step-*/manifest.json"

def and_die(**numbers):
    report(**numbers)
    if numbers.get("step", numbers.get("epoch")) >= last:
        while not glob.glob(saved):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

if os.environ["TRAINFORGE_ATTEMPT"] == "1" and int(os.environ["RANK"]) + 1 == int(os.environ["WORLD_SIZE"]):
    trainforge.report = and_die
sys.argv = [example]
runpy.run_path(example, run_name="__main__")
"""
JOB_FILE = """
project: {{name: {name}}}
training: {{script: {script}, args: [{args}]}}
resources: {{gpu: {gpus}}}
"""


@pytest.mark.parametrize(
    ("module", "example", "gpus", "last"),
    [
        ("transformers", "hugging_face.py", 1, 25),
        ("lightning", "lightning_callback.py", 1, 40),
        ("accelerate", "accelerate_loop.py", 2, 4),
    ],
)
def test_a_killed_loop_goes_on_by_itself(
    daemon: RealDaemon, module: str, example: str, gpus: int, last: int
) -> None:
    pytest.importorskip(module)
    project = daemon.folder / "project"
    project.mkdir()
    shutil.copy(EXAMPLES / example, project)
    (project / "killed_once.py").write_text(KILLED_ONCE)
    for name, script, args in (
        ("disturbed", "killed_once.py", f"{example}, {last}"),
        ("whole", example, ""),
    ):
        job_file = JOB_FILE.format(name=name, script=script, args=args, gpus=gpus)
        (project / "trainforge.yaml").write_text(job_file)
        daemon.tfctl("submit", cwd=project)

    with daemon.client() as client:
        disturbed, whole = client.wait(1, DEADLINE), client.wait(2, DEADLINE)
        assert (disturbed.state, whole.state) == (JobState.SUCCEEDED,) * 2, daemon.tfctl("why", "1").stdout
        assert disturbed.attempts is not None
        first, second = disturbed.attempts
        assert (first.reason, first.resumed_from) == ("killed", None)
        assert second.resumed_from is not None
        (series,) = client.metrics(1, ["loss"]).series
    axis = series.step if series.step and series.step[-1] else series.epoch
    assert list(axis) == sorted(set(axis)), "one curve, nothing of it twice"
    assert weights(daemon, 1) == weights(daemon, 2)


def weights(daemon: RealDaemon, job: int) -> set[str]:
    """What each rank printed at its end."""
    found = set(re.findall(r"sum of weights (\S+)", daemon.tfctl("logs", str(job)).stdout))
    assert found
    return found
