"""Job files in words, and what is read of them."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest

from trainforge.jobfile import layers
from trainforge.jobfile.checks import SpecError, check, format_details
from trainforge.spec import JobSpec

NOW = datetime.datetime(2026, 11, 22, 10, 0, tzinfo=datetime.UTC)

Write = Callable[..., str]

LEAST = "project: {name: a}\ntraining: {script: t.py}\n"


def read(*files: str, **given: list[str]) -> JobSpec:
    return check(layers.load(files, **given), now=NOW)  # type: ignore[arg-type]  # mypy cannot tell the lists


def mistakes(*files: str, **given: list[str]) -> list[str]:
    with pytest.raises(SpecError) as refused:
        read(*files, **given)
    return format_details(refused.value.details)


def env(write: Write, text: str) -> dict[str, str]:
    lines = "".join(f"  {line}\n" for line in text.splitlines())
    return read(write(f"{LEAST}env:\n{lines}")).environment.env
