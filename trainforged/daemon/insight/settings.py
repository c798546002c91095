"""Settings of jobs as rows of text, and in what they differ. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from trainforge.api import FileEntry
from trainforge.api.page import ComparedSetting, Difference
from trainforge.spec import JobSpec
from trainforged.storage.jobs.store import Submission

MOST_ROWS = 500
SHORT_HASH = 12  # characters


def flat(spec: JobSpec) -> dict[str, str]:
    """Key path → text; what is not set is left out."""
    return dict(_flat(msgspec.to_builtins(spec), ""))


def _flat(tree: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        here = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            yield from _flat(value, here)
        elif value is not None and value not in ([], ()):
            yield here, value if isinstance(value, str) else msgspec.json.encode(value).decode()


def described(submission: Submission, files: Sequence[FileEntry]) -> dict[str, str]:
    """`flat`, and what else makes a run what it is: commit, interpreter, folder, contents of the files."""
    rows = flat(submission.spec)
    if submission.git is not None:
        rows["git.commit"] = submission.git.commit + (" (with changes)" if submission.git.dirty else "")
    for name in ("python", "workdir"):
        if (value := getattr(submission, name)) is not None:
            rows[name] = value
    rows |= {f"file {entry.path}": _content(entry) for entry in files}
    return rows


def _content(entry: FileEntry) -> str:
    if entry.sha256 is not None:
        return f"{entry.size} bytes, {entry.sha256[:SHORT_HASH]}"
    return f"link to {entry.target}"


def differences(here: Mapping[str, str], there: Mapping[str, str]) -> tuple[Difference, ...]:
    rows = [
        Difference(path=path, here=here.get(path), there=there.get(path))
        for path in dict.fromkeys([*here, *there])
        if here.get(path) != there.get(path)
    ]
    return tuple(rows[:MOST_ROWS])


def compared(settings: Mapping[int, Mapping[str, str]]) -> tuple[ComparedSetting, ...]:
    """Settings in which the jobs differ."""
    paths = dict.fromkeys(path for rows in settings.values() for path in rows)
    table = ((path, {str(job): rows.get(path) for job, rows in settings.items()}) for path in paths)
    found = [
        ComparedSetting(path=path, values=values) for path, values in table if len(set(values.values())) > 1
    ]
    return tuple(found[:MOST_ROWS])
