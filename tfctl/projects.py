"""The project of a submission: frozen, checked against its job file, and talked about in a line or two."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import msgspec

from tfctl.failures import Failure
from tfctl.render.figures import counted, size
from tfctl.targets import Target, here, spoken
from trainforge.client.client import Client
from trainforge.jobfile.layers import Point
from trainforge.jobfile.mistakes import Mistakes
from trainforge.jobfile.tree import Fields, Tree, to_plain
from trainforge.project.freeze import FileChanged, FreezeError, Frozen, FrozenTooLarge
from trainforge.project.freeze import freeze as freeze_folder
from trainforge.project.regular import open_regular
from trainforge.spec import JobSpec

TRIES = 3  # to freeze a project that is being written to


def plain(spec: JobSpec) -> dict[str, Any]:
    """The spec as the API takes it."""
    tree: dict[str, Any] = msgspec.to_builtins(spec)
    return tree


def freeze(target: Target, spec: JobSpec, limit: Callable[[], int] | None = None) -> Frozen:
    """The project's files as they are now. `limit` asks the daemon for its own, should the usual one be
    too small. Raises `Failure`."""
    try:
        try:
            frozen = freeze_folder(target.root, spec.project)
        except FrozenTooLarge:
            if limit is None:
                raise
            frozen = freeze_folder(target.root, spec.project, limit())
    except FreezeError as error:
        raise Failure(str(error)) from None
    for key, path in (("script", spec.training.script), ("requirements", spec.training.requirements)):
        if path is not None and not os.path.isabs(path) and not frozen.has(path):
            raise Failure(_absent(target, key, path))
    return frozen


def upload(client: Client, target: Target, spec: JobSpec) -> Frozen:
    """Freeze, and send what the daemon lacks. What changes meanwhile is frozen again. Raises `Failure`."""
    for _ in range(TRIES):
        frozen = freeze(target, spec, lambda: client.status().project_limit)
        try:
            client.upload(frozen.entries, frozen.open)
        except FileChanged:
            continue
        return frozen
    raise Failure(f"{target.root}: files change as fast as they are read; try again when they are at rest")


def _absent(target: Target, key: str, path: str) -> str:
    text = f"training.{key}: {path} is not in the project ({target.root})"
    if os.path.exists(os.path.join(target.root, path)):
        return f"{text}: it is ignored or excluded; project.include takes it along"
    return text


@cache
def python() -> str | None:
    """The interpreter that `python: current` means in this shell."""
    from trainforge.project.interpreter import current_python

    return current_python(os.environ, here())


def check_requirements(target: Target, spec: JobSpec) -> None:
    """Refuse a job whose requirements this shell's Python lacks. Raises `Failure`."""
    path = spec.training.requirements
    if path is None or spec.environment.python == "isolated":
        return
    interpreter = python() if spec.environment.python == "current" else spec.environment.python
    if interpreter is None:
        return
    from trainforge.project.interpreter import missing_requirements

    try:
        with open_regular(os.path.join(target.root, path)) as file:
            missing = missing_requirements(interpreter, file.read().decode())
    except (OSError, UnicodeError) as error:
        raise Failure(f"training.requirements: {path} cannot be read: {error}") from None
    if missing:
        raise Failure(
            f"training.requirements: {interpreter} lacks {', '.join(missing)}; install them there, or set "
            "environment.python: isolated to have them installed for the job"
        )


def check_python(tree: Tree) -> None:
    """Refuse a job whose interpreter is not there to be run. Raises `SpecError`."""
    section = tree.root.entries.get("environment")
    entries = section.value.entries if section is not None and isinstance(section.value, Fields) else {}
    path = to_plain(entries["python"].value) if "python" in entries else None
    if not isinstance(path, str) or not path.startswith("/"):
        return
    if os.path.isfile(path) and os.access(path, os.X_OK):
        return
    mistakes = Mistakes()
    inside = os.path.join(path, "bin", "python")
    hint = f"; did you mean {inside}?" if os.path.exists(inside) else ""
    mistakes.add(
        "environment.python", f"{path} is not an interpreter that can be run{hint}", entries["python"]
    )
    mistakes.raise_any()


def varied(point: Point) -> str:
    """What sets a job of a grid apart, to stand behind its name."""
    values = spoken([f"{name}={value}" for name, value in point.values])
    return f": {values}" if values else ""


def say_about(target: Target, spec: JobSpec, frozen: Frozen | None) -> None:
    """On stderr, what the user would not expect."""
    if frozen is None:
        _say(f"runs in place, in {target.root}: what you change there, the job sees")
    else:
        for sentence in frozen.skipped:
            _say(sentence)
        if frozen.left_out:
            names = ", ".join(f"{name}/" for name in frozen.left_out)
            _say(f"left out, since git ignores them: {names} (project.include takes them along)")
    if spec.environment.base_image is not None:
        _say(f"base_image {spec.environment.base_image} is recorded; the job runs with this machine's Python")


def _say(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def summary(target: Target, points: Sequence[Point], specs: Sequence[JobSpec], frozen: Frozen | None) -> str:
    """What would be queued, for `--dry-run`."""
    lines = []
    for point, spec in zip(points, specs, strict=True):
        what = spec.training.script or spoken(spec.training.command or ())
        lines.append(f"would submit {spec.project.name}: {what}, gpu {spec.resources.gpu}{varied(point)}")
    if frozen is not None:
        files = counted(len(frozen.entries), "file")
        lines.append(f"frozen from {target.root}: {files}, {size(frozen.size)}")
        lines += [f"  {entry.path}" for entry in frozen.entries[:20]]
        if len(frozen.entries) > 20:
            lines.append(f"  and {len(frozen.entries) - 20} more")
    return "\n".join(lines)
