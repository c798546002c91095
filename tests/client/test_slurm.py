"""A job as a batch script of Slurm: its text, and what bash does with it where `srun` only runs its words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfctl.__main__ import main

JOB_FILE = """\
project: {name: net}
training:
  script: train.py
  args: [--lr, 0.1, "two words"]
resources: {gpu: 4, cpu: 16, memory: 32Gi}
env: {EPOCHS: 3, NAME: "it's"}
schedule: {time_limit: 36h, priority: 5, after: [41, 42]}
recovery: {grace: 90s, max_retries: 2}
checkpoints: {dir: saved}
"""
SCRIPT = """\
import os, sys
print(os.environ["TRAINFORGE_CHECKPOINT_DIR"], os.environ["EPOCHS"], os.environ["RANK"], sys.argv[1:])
sys.exit(int(os.environ.get("CODE", "0")))
"""
EXECUTABLES = {"srun": 'exec "$@"', "scontrol": 'echo "scontrol $*"'}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "trainforge.yaml").write_text(JOB_FILE)
    (tmp_path / "train.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINFORGE_SOCKET", str(tmp_path / "none"))
    return tmp_path


def exported(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["export", *words]) == 0
    return capsys.readouterr().out


def run(script: str, project: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """As Slurm's node would: bash, with `srun` and `scontrol` on the path."""
    for name, text in EXECUTABLES.items():
        (project / name).write_text(f"#!/bin/sh\n{text}\n")
        (project / name).chmod(0o755)
    env = os.environ | {"PATH": f"{project}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"} | variables
    return subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, cwd=project)


def test_what_a_job_asks_for_is_asked_of_slurm(capsys: pytest.CaptureFixture[str], project: Path) -> None:
    text = exported(capsys)
    options = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]
    assert options == [
        "--job-name=net", f"--chdir={project}", "--output=net-%j.log", "--open-mode=append", "--nodes=1",
        "--ntasks=1", "--gpus-per-node=4", "--cpus-per-task=16", "--mem=32768M", "--time=1-12:00:00",
        "--signal=TERM@90", "--requeue",
    ]  # fmt: skip
    assert "# schedule.after: 41, 42. With Slurm's numbers: sbatch --dependency=afterok:JOB\n" in text
    assert "# schedule.priority: 5." in text
    assert (
        "srun python -u -m torch.distributed.run --standalone --max-restarts=0 --nproc-per-node=4 --"
        " train.py --lr 0.1 'two words'\n"
    ) in text


def test_the_script_runs_the_job_with_its_variables(
    capsys: pytest.CaptureFixture[str], project: Path
) -> None:
    text = exported(capsys, "--gpu", "1", "--set", f"environment.python={sys.executable}")
    done = run(text, project)
    assert done.stdout == "saved/slurm-7 3 0 ['--lr', '0.1', 'two words']\n", done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize(("restarts", "again"), [("0", True), ("1", True), ("2", False)])
def test_a_failure_is_started_again_as_often_as_the_job_says(
    capsys: pytest.CaptureFixture[str], project: Path, restarts: str, again: bool
) -> None:
    text = exported(capsys, "--gpu", "1", "--set", f"environment.python={sys.executable}")
    done = run(text, project, CODE="3", SLURM_RESTART_COUNT=restarts)
    assert done.returncode == 3
    assert ("scontrol requeue 7" in done.stdout) == again


def test_a_command_is_run_once_and_not_again(capsys: pytest.CaptureFixture[str], project: Path) -> None:
    text = exported(capsys, "--gpu", "2", "--", "sh", "-c", "echo $0 $1; exit 4", "a b")
    assert "--requeue" not in text
    done = run(text, project)
    assert (done.stdout, done.returncode) == ("a b\n", 4)


def test_a_bad_job_file_is_refused_as_by_submit(capsys: pytest.CaptureFixture[str], project: Path) -> None:
    assert main(["export", "--set", "resources.gpus=1"]) == 2
    assert capsys.readouterr().err == "tfctl: --set: resources.gpus: unknown key; did you mean gpu?\n"
