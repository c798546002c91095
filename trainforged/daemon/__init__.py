"""The composition root: the one place that knows all parts. `run` is the daemon's life."""

from trainforged.daemon.life import CannotStart, run
from trainforged.daemon.options import Options

__all__ = ["CannotStart", "Options", "run"]
