"""TrainForge in a job and from Python. Names are loaded on first use.

In a job only this package's in-job modules are there (`trainforge.protocol.IN_JOB_MODULES`):
standard library only, Python ≥ 3.9, torch imported by what needs it. `Client` belongs to the
installed package.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # `typing` would cost every start 10 ms and is for checkers alone
if TYPE_CHECKING:
    from typing import Any

    from trainforge.checkpoint import Checkpointer
    from trainforge.client import Client
    from trainforge.job import phase, report, should_stop

__version__ = "0.1.0"

__all__ = ["Checkpointer", "Client", "phase", "report", "should_stop"]

_HOMES = {
    "Checkpointer": "trainforge.checkpoint",
    "Client": "trainforge.client",
    "phase": "trainforge.job",
    "report": "trainforge.job",
    "should_stop": "trainforge.job",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'trainforge' has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(home), name)
    except ModuleNotFoundError as error:
        if error.name != home:
            raise
        raise AttributeError(
            f"trainforge.{name} is not part of the library that a job gets; install the trainforge package"
        ) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
