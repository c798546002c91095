"""What a job's command looks like on this machine itself: its arguments and environment.

Pure functions. A *rank* is one training process; a script with one is started directly, which saves
the launcher's 2 s and keeps its real exit code; several are started by `torch.distributed.run`,
which never restarts them: only the core retries.

The environment, each over the one before: the submitting shell's, the job file's, ours.
"""

from __future__ import annotations

import math
import os

import msgspec

from trainforge import protocol as p
from trainforge.api import ShellState
from trainforge.spec import JobSpec
from trainforged.core.messages import StartAttempt
from trainforged.execution.launch import OUTPUT_LIMIT, PROCESSES, CannotStart, Launch
from trainforged.execution.observing import flight

LAUNCHER_PATIENCE = 24 * 3600  # seconds: how long a stop may take is for the shim to say
KEPT = frozenset({"TRAINFORGE_SOCKET"})  # the daemon to talk to, not part of another job

# What a shell that was itself started by a launcher or a job would hand on.
LEAKS = frozenset(
    {
        "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK",
        "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT",
    }
)  # fmt: skip
LEAKING_PREFIXES = ("TORCHELASTIC_", "PET_", "TRAINFORGE_")
LEAKS_OF_A_JOB = frozenset({"WANDB_RUN_ID", "WANDB_RESUME"})  # where the shell belonged to a job

# Each rank writes to a pipe of its own, from its first byte on. `exec` keeps the launcher's child the rank.
TO_OWN_PIPE = f'exec "$@" >"${p.ATTEMPT_DIR}/rank-$RANK.pipe" 2>&1'


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """Where and with what an attempt runs. Paths are absolute."""

    order: StartAttempt
    spec: JobSpec
    shell: ShellState
    python: str  # the job's interpreter
    cwd: str
    job_dir: str
    attempt_dir: str
    checkpoint_dir: str
    library: str  # the folder that `library.ensure` gave
    run_id: str  # the same for all attempts of a job, and no other job's anywhere
    port: int  # free, for the ranks to meet at
    cores: int  # of the machine, really
    simulated: bool = False  # the GPUs are made up: ranks run on the CPU
    submit_dir: str | None = None
    resume_from: str | None = None
    env_file: str | None = None  # where `shell` is stored
    output_limit: int = OUTPUT_LIMIT
    processes: int = PROCESSES


def launch(setting: Setting) -> Launch:
    """The whole of it. Raises `CannotStart`."""
    ranks = setting.spec.ranks(gpus=len(setting.order.gpus), cpu=setting.order.cpu)
    return Launch(
        argv=arguments(setting.spec, setting.python, setting.attempt_dir, ranks),
        cwd=setting.cwd,
        env=environment(setting, ranks),
        env_file=setting.env_file,
        unset=leaked(setting.shell.env),
        ranks=ranks,
        grace=setting.spec.recovery.grace,
        output_limit=setting.output_limit,
        processes=setting.processes,
    )


def arguments(spec: JobSpec, python: str, attempt_dir: str, ranks: int) -> tuple[str, ...]:
    """The command line. Raises `CannotStart` for a spec with neither script nor command."""
    if spec.training.command is not None:
        return spec.training.command
    if spec.training.script is None:
        raise CannotStart("the job has neither a script nor a command", hopeless=True)
    rank = (python, "-m", "trainforge.rank", spec.training.script, *spec.training.args)
    if ranks == 1:
        return rank
    return (
        *(python, "-m", "torch.distributed.run"),
        *("--standalone", f"--nproc-per-node={ranks}", "--max-restarts=0"),
        "--local-addr=127.0.0.1",  # else it looks up the host's name, which may resolve to nothing
        f"--log-dir={attempt_dir}/launcher",  # else it leaves a folder in /tmp
        *("--no-python", "--", "/bin/sh", "-c", TO_OWN_PIPE, "rank"),
        *rank,
    )


def environment(setting: Setting, ranks: int) -> dict[str, str]:
    """What lies over the shell's environment: the job file's variables, and ours over both."""
    given = setting.shell.env
    base = {name: value for name, value in given.items() if name not in leaked(given)}
    chosen = {**base, **setting.spec.environment.env}
    env = {**setting.spec.environment.env, **_of_job(setting), **_of_machine(setting, ranks)}
    env["PYTHONPATH"] = _paths(setting.library, chosen.get("PYTHONPATH"))
    if setting.spec.environment.python == "isolated" and setting.spec.training.requirements is not None:
        bin_dir = os.path.dirname(setting.python)
        env["VIRTUAL_ENV"] = os.path.dirname(bin_dir)
        env["PATH"] = _paths(bin_dir, chosen.get("PATH", os.defpath))
    polite = {"PYTHONUNBUFFERED": "1", "WANDB_RUN_ID": setting.run_id, "WANDB_RESUME": "allow"}
    if ranks > 1:
        polite |= flight.variables(setting.attempt_dir)
    env.update({name: value for name, value in polite.items() if name not in chosen})
    return env


def leaked(env: dict[str, str]) -> tuple[str, ...]:
    """Variables of a shell that belong to another job or launcher."""
    names = LEAKS | LEAKS_OF_A_JOB if p.JOB_ID in env else LEAKS
    found = (name for name in env if name in names or name.startswith(LEAKING_PREFIXES))
    return tuple(sorted(name for name in found if name not in KEPT))


def threads_per_rank(cpu: int, cores: int, ranks: int) -> int:
    """Threads beyond the real cores only get in each other's way."""
    return max(1, min(cpu, cores) // max(1, ranks))


def _of_job(setting: Setting) -> dict[str, str]:
    env = {
        p.JOB_ID: str(setting.order.job),
        p.ATTEMPT: str(setting.order.attempt),
        p.JOB_DIR: setting.job_dir,
        p.SUBMIT_DIR: setting.submit_dir or setting.cwd,
        p.CHECKPOINT_DIR: setting.checkpoint_dir,
        p.CHECKPOINT_KEEP: str(setting.spec.checkpoints.keep),
        p.ATTEMPT_DIR: setting.attempt_dir,
        p.CPUS: str(setting.order.cpu),
    }
    return env if setting.resume_from is None else {**env, p.RESUME_FROM: setting.resume_from}


def _of_machine(setting: Setting, ranks: int) -> dict[str, str]:
    gpus = () if setting.simulated else setting.order.gpus
    env = {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(gpus),  # empty hides them all: none was leased
        "OMP_NUM_THREADS": str(threads_per_rank(setting.order.cpu, setting.cores, ranks)),
    }
    if ranks == 1:
        env |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
        env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(setting.port)}
    if ranks > 1:
        patience = max(LAUNCHER_PATIENCE, math.ceil(setting.spec.recovery.grace))
        env["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(patience)
        env["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    return env


def _paths(first: str, rest: str | None) -> str:
    return f"{first}{os.pathsep}{rest}" if rest else first
