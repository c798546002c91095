"""What a job's command and environment are on this machine."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from trainforge.api import ShellState
from trainforge.protocol import RESERVED
from trainforge.spec import Checkpoints, Environment, JobSpec, Project, Recovery, Training
from trainforged.core.messages import StartAttempt
from trainforged.execution.launch import CannotStart, Launch
from trainforged.execution.starting import host, library
from trainforged.execution.starting.ports import HIGHEST, LOWEST, free_port

SCRIPT = Training(script="train.py", args=("--lr", "0.1", "--", "-x"))
PY = "/venv/bin/python"
RANK = (PY, "-m", "trainforge.rank", "train.py", "--lr", "0.1", "--", "-x")


def launch(
    training: Training = SCRIPT,
    gpus: tuple[str, ...] = (),
    cpu: int = 4,
    env: dict[str, str] | None = None,
    shell: dict[str, str] | None = None,
    python: str = "current",
    **setting: Any,
) -> Launch:
    spec = JobSpec(
        project=Project(name="digits"),
        training=training,
        environment=Environment(env=env or {}, python=python),
        recovery=Recovery(grace=90.0),
        checkpoints=Checkpoints(keep=5),
    )
    fields: dict[str, Any] = {
        "order": StartAttempt(job=12, attempt=2, gpus=gpus, cpu=cpu, memory=0),
        "spec": spec,
        "shell": ShellState(env={"PATH": "/bin", "HOME": "/home/alice"} | (shell or {})),
        "python": PY,
        "cwd": "/state/jobs/12/project",
        "job_dir": "/state/jobs/12",
        "attempt_dir": "/state/jobs/12/attempts/2",
        "checkpoint_dir": "/state/jobs/12/checkpoints",
        "library": "/state/library/abc",
        "run_id": "tf-0123",
        "port": 21_000,
        "cores": 8,
    }
    return host.launch(host.Setting(**(fields | setting)))


def child_env(made: Launch, shell: dict[str, str] | None = None) -> dict[str, str]:
    """As the shim puts it together."""
    given = {"PATH": "/bin", "HOME": "/home/alice"} | (shell or {})
    return {name: value for name, value in given.items() if name not in made.unset} | made.env


def test_a_command_is_run_as_it_is() -> None:
    made = launch(Training(command=("bash", "-c", "make all")))
    assert made.argv == ("bash", "-c", "make all")
    assert made.ranks == 0
    assert "RANK" not in made.env
    assert made.env["OMP_NUM_THREADS"] == "4"
    assert (made.cwd, made.grace) == ("/state/jobs/12/project", 90.0)


def test_one_rank_is_started_directly_and_can_meet_itself() -> None:
    made = launch(gpus=("GPU-a",))
    assert made.argv == RANK
    assert made.ranks == 1
    expected = {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "21000",
        "CUDA_VISIBLE_DEVICES": "GPU-a",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "OMP_NUM_THREADS": "4",
    }
    assert {name: made.env[name] for name in expected} == expected


def test_several_ranks_are_launched_by_torch() -> None:
    made = launch(gpus=("GPU-b", "GPU-a"), cpu=16)
    assert made.ranks == 2
    assert made.argv[:3] == (PY, "-m", "torch.distributed.run")
    own = made.argv[3 : made.argv.index("--")]
    assert {"--standalone", "--nproc-per-node=2", "--max-restarts=0", "--no-python"} <= set(own)
    assert "--log-dir=/state/jobs/12/attempts/2/launcher" in own
    assert made.argv[-len(RANK) :] == RANK
    assert made.env["CUDA_VISIBLE_DEVICES"] == "GPU-b,GPU-a", "in the order of the ranks"
    assert made.env["OMP_NUM_THREADS"] == "4", "no more threads than real cores"
    assert made.env["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "1"
    assert int(made.env["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]) > 90
    assert {"RANK", "MASTER_PORT"}.isdisjoint(made.env), "these are the launcher's to set"


@pytest.mark.parametrize(
    ("gpus", "cpu", "distributed", "ranks"),
    [
        (0, 4, None, 1),
        (0, 4, "true", 4),
        (0, 4, "True", 4),
        (0, 4, "false", 1),
        (0, 0, "true", 1),
        (3, 4, "true", 3),
    ],
)
def test_ranks_follow_gpus_or_cores(gpus: int, cpu: int, distributed: str | None, ranks: int) -> None:
    env = {} if distributed is None else {"DISTRIBUTED": distributed}
    assert launch(gpus=tuple(f"GPU-{i}" for i in range(gpus)), cpu=cpu, env=env).ranks == ranks


def test_made_up_gpus_give_ranks_on_the_cpu() -> None:
    made = launch(gpus=("GPU-a", "GPU-b"), simulated=True)
    assert made.ranks == 2
    assert made.env["CUDA_VISIBLE_DEVICES"] == ""


def test_without_a_gpu_none_is_seen() -> None:
    assert launch(shell={"CUDA_VISIBLE_DEVICES": "0"}).env["CUDA_VISIBLE_DEVICES"] == ""


def test_what_a_job_is_told() -> None:
    made = launch(resume_from="/state/jobs/12/checkpoints/step-40", submit_dir="/home/alice/digits")
    expected = {
        "TRAINFORGE_JOB_ID": "12",
        "TRAINFORGE_ATTEMPT": "2",
        "TRAINFORGE_JOB_DIR": "/state/jobs/12",
        "TRAINFORGE_ATTEMPT_DIR": "/state/jobs/12/attempts/2",
        "TRAINFORGE_SUBMIT_DIR": "/home/alice/digits",
        "TRAINFORGE_CHECKPOINT_DIR": "/state/jobs/12/checkpoints",
        "TRAINFORGE_CHECKPOINT_KEEP": "5",
        "TRAINFORGE_RESUME_FROM": "/state/jobs/12/checkpoints/step-40",
        "TRAINFORGE_CPUS": "4",
    }
    assert {name: made.env[name] for name in expected} == expected
    assert "TRAINFORGE_RESUME_FROM" not in launch().env


def test_the_shell_lies_below_the_job_file_and_both_below_ours() -> None:
    shell = {"A": "shell", "B": "shell", "OMP_NUM_THREADS": "99"}
    env = child_env(launch(shell=shell, env={"B": "file"}), shell)
    assert (env["A"], env["B"], env["OMP_NUM_THREADS"], env["HOME"]) == ("shell", "file", "4", "/home/alice")


def test_nothing_of_another_job_or_launcher_leaks_in() -> None:
    shell = dict.fromkeys(RESERVED, "old") | {
        "TORCHELASTIC_RUN_ID": "old",
        "PET_NPROC_PER_NODE": "8",
        "TRAINFORGE_FUTURE": "old",
        "GROUP_RANK": "0",
        "WANDB_RUN_ID": "old",
        "TRAINFORGE_SOCKET": "/run/x.sock",
        "KEPT": "yes",
    }
    env = child_env(launch(Training(command=("true",)), shell=shell), shell)
    assert {name for name, value in env.items() if value == "old"} == set()
    assert {"RANK", "PET_NPROC_PER_NODE", "TRAINFORGE_FUTURE", "TRAINFORGE_RANK_SOCKET"}.isdisjoint(env)
    assert (env["KEPT"], env["TRAINFORGE_SOCKET"]) == ("yes", "/run/x.sock")
    assert env["WANDB_RUN_ID"] == "tf-0123", "a job that a job submits is a run of its own"


def test_ours_comes_first_on_pythonpath() -> None:
    assert launch().env["PYTHONPATH"] == "/state/library/abc"
    assert launch(shell={"PYTHONPATH": "/a:/b"}).env["PYTHONPATH"] == "/state/library/abc:/a:/b"
    chosen = launch(shell={"PYTHONPATH": "/a"}, env={"PYTHONPATH": "/c"})
    assert chosen.env["PYTHONPATH"] == "/state/library/abc:/c"


def test_an_isolated_environment_is_on_the_path() -> None:
    command = Training(command=("python", "x.py"), requirements="requirements.txt")
    made = launch(command, python="isolated")
    assert made.env["PATH"] == "/venv/bin:/bin"
    assert made.env["VIRTUAL_ENV"] == "/venv"
    assert "PATH" not in launch().env
    bare = launch(Training(command=("python", "x.py")), python="isolated")
    assert "PATH" not in bare.env, "without requirements there is nothing to isolate"


def test_what_the_user_chose_is_left() -> None:
    names = ("PYTHONUNBUFFERED", "WANDB_RUN_ID", "WANDB_RESUME")
    assert [launch().env[name] for name in names] == ["1", "tf-0123", "allow"]
    shell = {"PYTHONUNBUFFERED": ""}
    env = child_env(launch(shell=shell, env={"WANDB_RUN_ID": "mine"}), shell)
    assert (env["PYTHONUNBUFFERED"], env["WANDB_RUN_ID"]) == ("", "mine")


def test_neither_script_nor_command() -> None:
    with pytest.raises(CannotStart) as caught:
        launch(Training())
    assert caught.value.hopeless


def test_a_port_is_free_and_not_one_that_connections_take() -> None:
    ports = {free_port() for _ in range(20)}
    assert len(ports) > 10
    assert all(LOWEST <= port <= HIGHEST for port in ports)


def test_the_library_is_whole_read_only_and_made_once(tmp_path: Path) -> None:
    folder = library.ensure(tmp_path)
    package = folder / "trainforge"
    files = [path for path in package.rglob("*") if path.is_file()]
    assert {str(path.relative_to(package)) for path in files} == set(library.MODULES)
    assert {path.name for path in package.iterdir()} == {"__init__.py", "protocol.py", "rank.py", "in_job"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o444 for path in files)
    assert [path.name for path in folder.iterdir()] == ["trainforge"], "nothing else comes onto the path"
    before = package.stat().st_ino
    assert library.ensure(tmp_path) == folder
    assert package.stat().st_ino == before
    assert os.listdir(folder.parent) == [folder.name]


def test_a_damaged_library_is_made_anew(tmp_path: Path) -> None:
    folder = library.ensure(tmp_path)
    (folder / "trainforge" / "rank.py").unlink()
    assert library.ensure(tmp_path) == folder
    assert (folder / "trainforge" / "rank.py").exists()


@pytest.mark.torch
def test_torch_understands_our_command_line() -> None:
    run = pytest.importorskip("torch.distributed.run")
    made = launch(gpus=("GPU-a", "GPU-b"))
    read = run.parse_args(list(made.argv[3:]))
    assert (read.standalone, read.nproc_per_node, read.max_restarts) == (True, "2", 0)
    assert (read.no_python, read.local_addr) == (True, "127.0.0.1")
    script = (read.training_script, *read.training_script_args)
    assert script == ("/bin/sh", "-c", host.TO_OWN_PIPE, "rank", *RANK)
