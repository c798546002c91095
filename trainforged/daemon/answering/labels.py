"""What sets a job apart from others of its name, in a few words: `LEARNING_RATE=0.1 SEED=2`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from trainforge.spec import JobSpec

LONGEST = 200  # characters, of a value and of all
IN_ENVIRONMENT = "environment.env."


def label(spec: JobSpec, paths: Sequence[str]) -> str:
    """These settings of the job, variables by their name; empty where it has none of them."""
    if not paths:
        return ""
    return " ".join(_words(msgspec.to_builtins(spec), paths))[:LONGEST]


def _words(tree: Mapping[str, Any], paths: Sequence[str]) -> Iterator[str]:
    for path in dict.fromkeys(paths):
        value = _value(tree, path)
        if value is not None:
            text = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            yield f"{path.removeprefix(IN_ENVIRONMENT)}={shlex.quote(text[:LONGEST])}"


def _value(tree: Mapping[str, Any], path: str) -> object:
    """What stands at the key path; None for nothing, or for a whole section."""
    section, _, rest = path.partition(".")
    inner = tree.get(section)
    if not isinstance(inner, Mapping):
        return None
    if path.startswith(IN_ENVIRONMENT):
        return inner.get("env", {}).get(path.removeprefix(IN_ENVIRONMENT))
    value = inner.get(rest)
    return None if isinstance(value, Mapping) else value
