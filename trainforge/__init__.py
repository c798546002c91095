"""TrainForge in a job and from Python. Names are loaded on first use.

In a job only this module, `protocol`, `rank` and `in_job/` are there: standard library only, Python
≥ 3.9, torch imported by what needs it. `Client` belongs to the installed package.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # `typing` would cost every start 10 ms and is for checkers alone
if TYPE_CHECKING:
    from typing import Any

    from trainforge.client.client import Client
    from trainforge.in_job.checkpoint import Checkpointer
    from trainforge.in_job.job import phase, report, should_stop

__version__ = "0.1.0"

__all__ = ["Checkpointer", "Client", "phase", "report", "should_stop"]

_HOMES = {
    "Checkpointer": "trainforge.in_job.checkpoint",
    "Client": "trainforge.client.client",
    "phase": "trainforge.in_job.job",
    "report": "trainforge.in_job.job",
    "should_stop": "trainforge.in_job.job",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'trainforge' has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(home), name)
    except ModuleNotFoundError as error:
        if error.name not in (home, home.rpartition(".")[0]):
            raise
        raise AttributeError(
            f"trainforge.{name} is not part of the library that a job gets; install the trainforge package"
        ) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
