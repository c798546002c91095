"""What is to be submitted: the job file's text, laid together, and where its files come from.

A folder stands for its `trainforge.yaml`; a job file for itself; a script for a job of its own; `-f`
files lie over it, flags over them. Without any of these, the current folder is meant.

Words behind `--` are the arguments of a script. Otherwise they are a command: run in place in the
current folder or, where a project is named, in that project, frozen as ever.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tfctl.failures import Failure
from trainforge.jobfile.layers import Setting, load, setting
from trainforge.jobfile.tree import Tree, to_plain

JOB_FILE = "trainforge.yaml"
RUNS_SCRIPTS = re.compile(r"(python|bash|sh|torchrun|accelerate|deepspeed|uv|conda|srun)[\d.]*")
FLAGS = {
    "name": "project.name",
    "gpu": "resources.gpu",
    "cpu": "resources.cpu",
    "memory": "resources.memory",
    "priority": "schedule.priority",
    "time_limit": "schedule.time_limit",
    "begin": "schedule.begin",
}
WAITS = ("after", "afterany", "afternotok")  # keys of `schedule` that name other jobs, and flags


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """`root` is the project's folder. `in_place`: the job runs there, nothing is frozen."""

    tree: Tree
    root: str
    in_place: bool


def read_target(args: argparse.Namespace, words: Sequence[str], after: Mapping[str, Sequence[int]]) -> Target:
    """The target of `submit`; `words` stand behind `--`. Raises `Failure` and `SpecError`."""
    what, base = args.target, None
    files, root = list(args.file), here()
    script = what is not None and what.endswith(".py") and not os.path.isdir(what)
    in_place = False
    if script:
        base = _script_base(what, words)
        in_place = not files and not _in_git(root)
    elif what is not None:
        _refuse_arguments(what, words)
        if os.path.isdir(what):
            root = os.path.abspath(what)
            files = [*_job_file_in(what, needed=not files), *files]
        else:
            files = [_existing(what), *files]
    elif words:
        base, in_place = _command_base(words), True
    else:
        files = _over_this_folder(files)
    over = _settings(args, [] if script else words, after, keep_requirements=not in_place)
    tree = load(files, base=base, over=over, sets=args.set, envs=args.env)
    return Target(tree=tree, root=root, in_place=in_place)


def here() -> str:
    """The current folder. Raises `Failure` where it was removed."""
    try:
        return os.getcwd()
    except OSError as error:
        raise Failure(f"the current folder cannot be used ({error.strerror}); cd to another") from None


def _existing(path: str) -> str:
    if os.path.exists(path):
        return path
    import shutil

    hint = f"; a command goes behind --: tfctl submit -- {path}" if shutil.which(path) else ""
    raise Failure(f"{path}: no such folder, job file or script{hint}")


def _refuse_arguments(what: str, words: Sequence[str]) -> None:
    """A project's script has its arguments in the job file, where they are seen."""
    if words and words[0].startswith("-"):
        raise Failure(
            f"{words[0]}: behind -- stands a command to run in {what}; arguments for its script: "
            f'--set "training.args={list(words)!r}"'
        )


def _over_this_folder(files: list[str]) -> list[str]:
    """The `-f` files, over this folder's job file unless they are a whole one together, or name it."""
    if not files:
        return _job_file_in(".", needed=True)
    here = _job_file_in(".", needed=False)
    if not here or os.path.abspath(JOB_FILE) in map(os.path.abspath, files) or _whole(files):
        return files
    return [*here, *files]


def _whole(files: Sequence[str]) -> bool:
    """Whether the files say what to run, and under which name."""
    root = to_plain(load(files).root)
    project, training = (
        section if isinstance(section, dict) else {}
        for section in (root.get("project"), root.get("training"))
    )
    return bool(project.get("name") and (training.get("script") or training.get("command")))


def _job_file_in(folder: str, *, needed: bool) -> list[str]:
    path = os.path.join(folder, JOB_FILE) if folder != "." else JOB_FILE
    if os.path.exists(path):
        return [path]
    if needed:
        raise Failure(
            f"{path} does not exist; tfctl init writes one, or name a script: tfctl submit train.py"
        )
    return []


def _script_base(path: str, words: Sequence[str]) -> dict[str, Any]:
    if not os.path.exists(path):
        raise Failure(f"{path}: no such script")
    inside = os.path.relpath(path)
    if inside.startswith(".."):
        raise Failure(f"{path} lies outside the current folder; go to its project's folder first")
    training: dict[str, Any] = {"script": inside}
    if words:
        training["args"] = list(words)
    return {"project": {"name": _name_from(os.path.basename(path)[:-3])}, "training": training}


def _command_base(words: Sequence[str]) -> dict[str, Any]:
    """A command holds no GPU unless one is asked for."""
    return {"project": {"name": command_name(words)}, "resources": {"gpu": 0}}


def command_name(words: Sequence[str]) -> str:
    """The program's; of a script that is given to one, the script's: jobs all called python tell nothing."""
    program = os.path.basename(words[0])
    named = itertools.takewhile(
        lambda word: word != "-c", words[1:] if RUNS_SCRIPTS.fullmatch(program) else ()
    )
    script = next((word for word in named if word.endswith((".py", ".sh"))), None)
    return _name_from(os.path.splitext(os.path.basename(script))[0] if script else program)


def _name_from(text: str) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:63]
    return name if name[:1].isalpha() else f"job-{name}".rstrip("-")


def _settings(
    args: argparse.Namespace,
    command: Sequence[str],
    after: Mapping[str, Sequence[int]],
    *,
    keep_requirements: bool,
) -> list[Setting]:
    out = []
    for flag, path in FLAGS.items():
        value = getattr(args, flag)
        if value is not None:
            out.append(setting(path, value, "--" + flag.replace("_", "-")))
    out += [
        setting(f"schedule.{key}", list(map(str, jobs)), f"--{key}") for key, jobs in after.items() if jobs
    ]
    if command:
        out += [setting("training.command", list(command), "--")]
        replaced = ("script", "args") if keep_requirements else ("script", "args", "requirements")
        out += [setting(f"training.{key}", None, "--") for key in replaced]
    return out


def _in_git(folder: str) -> bool:
    while True:
        if os.path.exists(os.path.join(folder, ".git")):
            return True
        parent = os.path.dirname(folder)
        if parent == folder:
            return False
        folder = parent


def spoken(words: Sequence[str]) -> str:
    """A command as one would type it."""
    return shlex.join(words)
