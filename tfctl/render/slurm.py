"""A job as a batch script of Slurm, for when it has outgrown this machine. Pure.

The script runs what the job would run here, on one node: as many ranks, its variables, its time to save, and
another start after a failure, which goes on from the newest checkpoint since the job keeps its number.
What Slurm has no word for is said in comments.
"""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Iterator

from trainforge.spec import JobSpec, Schedule

MIB = 2**20
WAITS = {"after": "afterok", "afterany": "afterany", "afternotok": "afternotok"}


def script(spec: JobSpec, root: str) -> str:
    """The whole text. `root` is the folder that the job runs in, of the cluster as well."""
    parts = [
        ["#!/bin/bash", *(f"#SBATCH {option}" for option in _options(spec, root))],
        [f"# {line}" for line in _left_out(spec)],
        list(_environment(spec)),
        list(_run(spec)),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _ranks(spec: JobSpec) -> int:
    return spec.ranks(gpus=spec.resources.gpu_range[0], cpu=spec.resources.cpu or 1)


def _options(spec: JobSpec, root: str) -> Iterator[str]:
    gpus, _ = spec.resources.gpu_range
    yield f"--job-name={spec.project.name}"
    yield f"--chdir={shlex.quote(root)}"
    yield f"--output={spec.project.name}-%j.log"
    yield "--open-mode=append"
    yield "--nodes=1"
    yield "--ntasks=1"
    if gpus:
        yield f"--gpus-per-node={gpus}"
    if spec.resources.cpu:
        yield f"--cpus-per-task={spec.resources.cpu}"
    if spec.resources.memory:
        yield f"--mem={-(-spec.resources.memory // MIB)}M"
    yield from _times(spec.schedule)
    yield f"--signal=TERM@{max(1, round(spec.recovery.grace))}"
    if spec.recovery.max_retries:
        yield "--requeue"


def _times(schedule: Schedule) -> Iterator[str]:
    if schedule.time_limit is not None:
        days, seconds = divmod(int(schedule.time_limit), 86400)
        yield f"--time={days}-{datetime.timedelta(seconds=seconds)}"
    if schedule.begin is not None:
        yield f"--begin={schedule.begin.astimezone():%Y-%m-%dT%H:%M:%S}"


def _left_out(spec: JobSpec) -> Iterator[str]:
    """What whoever submits it has to see to."""
    schedule = spec.schedule
    for key, word in WAITS.items():
        if jobs := getattr(schedule, key):
            numbers = ", ".join(map(str, jobs))
            yield f"schedule.{key}: {numbers}. With Slurm's numbers: sbatch --dependency={word}:JOB"
    if schedule.priority:
        yield f"schedule.priority: {schedule.priority}. Slurm gives priorities itself (--nice lowers one)"
    if isinstance(spec.resources.gpu, str):
        yield f"resources.gpu: {spec.resources.gpu}. Slurm takes one number: the least"
    if spec.environment.python == "isolated" or spec.training.requirements:
        needed = f" with what {spec.training.requirements} lists" if spec.training.requirements else ""
        yield f"Activate an environment{needed} and trainforge here, or before sbatch"
    if spec.environment.base_image:
        yield f"environment.base_image: {spec.environment.base_image}"


def _environment(spec: JobSpec) -> Iterator[str]:
    for name, value in spec.environment.env.items():
        yield f"export {name}={shlex.quote(value)}"
    yield f"export TRAINFORGE_CHECKPOINT_DIR={shlex.quote(spec.checkpoints.dir)}/slurm-$SLURM_JOB_ID"
    yield f"export TRAINFORGE_CHECKPOINT_KEEP={spec.checkpoints.keep}"
    if spec.resources.cpu:
        yield f"export OMP_NUM_THREADS={max(1, spec.resources.cpu // max(1, _ranks(spec)))}"
    if _ranks(spec) == 1:
        yield "export RANK=0 LOCAL_RANK=0 WORLD_SIZE=1 MASTER_ADDR=127.0.0.1"
        yield "export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))"


def _run(spec: JobSpec) -> Iterator[str]:
    yield f"srun {shlex.join(_words(spec))}"
    retries = spec.recovery.max_retries
    if retries:
        yield "code=$?"
        yield f'if [ $code -ne 0 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {retries} ]; then'
        yield '    scontrol requeue "$SLURM_JOB_ID"'
        yield "fi"
        yield "exit $code"


def _words(spec: JobSpec) -> list[str]:
    training, python = spec.training, spec.environment.python
    if training.command is not None:
        return list(training.command)
    interpreter = python if python.startswith("/") else "python"
    launcher = [interpreter, "-u"]
    if _ranks(spec) > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--max-restarts=0"]
        launcher += [f"--nproc-per-node={_ranks(spec)}", "--"]
    return [*launcher, str(training.script), *training.args]
