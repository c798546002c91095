"""Settings of jobs, named as one types them: a variable by its name, other keys by their path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trainforge.api import JobView

NAMES = {"project.name", "project.description"}  # say nothing of how a job differs


def environment(job: JobView) -> dict[str, str]:
    """The variables that were set for the job, by its job file or on the command line."""
    return dict(((job.spec or {}).get("environment") or {}).get("env") or {})


def differences(jobs: Sequence[JobView]) -> dict[str, list[str]]:
    """The settings in which the jobs differ, variables first, each with its value for every job; a dash for
    none."""
    flat = [dict(_flat(job.spec or {})) for job in jobs]
    names = sorted(
        dict.fromkeys(name for settings in flat for name in settings), key=lambda name: "." in name
    )
    rows = {name: [settings.get(name, "-") for settings in flat] for name in names}
    return {name: values for name, values in rows.items() if len(set(values)) > 1 and name not in NAMES}


def _flat(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        here = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            yield from _flat(value, "" if here == "environment.env" else here)
        elif value is not None:
            yield here, " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
