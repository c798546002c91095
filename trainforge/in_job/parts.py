"""The objects a Checkpointer was given: their states out, and back in.

Part of the in-job half: standard library only, Python ≥ 3.9; torch is imported when used.
"""

from __future__ import annotations

import os
from typing import Any

from trainforge.in_job import manifests, records


class Parts:
    """The objects by name. Generators are apart: every rank has its own."""

    def __init__(self, objects: dict[str, Any]) -> None:
        import torch

        given = {name: part for name, part in objects.items() if part is not None}
        self._generators = {name: part for name, part in given.items() if isinstance(part, torch.Generator)}
        self._objects = {name: part for name, part in given.items() if name not in self._generators}
        for name, part in self._objects.items():
            _check(name, part)

    def states(self) -> dict[str, Any]:
        """The states as they are: they change with the objects."""
        return {
            name: part if isinstance(part, dict) else _inside(part).state_dict()
            for name, part in self._objects.items()
        }

    def optimizers(self) -> dict[str, Any]:
        """Those of torch itself, of which is known that nothing but `step()` changes their states, and that
        it calls hooks before, as since torch 2.0."""
        import torch

        return {
            name: part
            for name, part in self._objects.items()
            if isinstance(part, torch.optim.Optimizer)
            and type(part).__module__.startswith("torch.optim.")
            and hasattr(part, "register_step_pre_hook")
        }

    def generator_states(self) -> dict[str, Any]:
        return {name: generator.get_state() for name, generator in self._generators.items()}

    def restore(self, path: str, states: dict[str, Any]) -> None:
        """Load the states, read from `path`, into the objects. What one side lacks is left, with a word."""
        for name, part in self._objects.items():
            if name not in states:
                records.say(f"checkpoint {path} has no {name}: it starts anew")
                continue
            try:
                _load(part, states[name])
            except Exception as error:
                raise RuntimeError(f"checkpoint {path}: {name} does not fit: {error}") from error
        for name in states.keys() - self._objects.keys():
            records.say(f"checkpoint {path} has a {name}, which was not given to this Checkpointer")

    def restore_generators(self, states: dict[str, Any]) -> None:
        for name, generator in self._generators.items():
            if name in states:
                generator.set_state(states[name])


def load(path: str, rank: int) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The state in a checkpoint, and the rank's own; None where there was no such rank."""
    own = os.path.join(path, manifests.RANK_FILE.format(rank=rank))
    if os.path.exists(own):
        return _read(os.path.join(path, manifests.STATE)), _read(own)
    records.say(f"checkpoint {path} was saved by fewer ranks: rank {rank} keeps the random states it has")
    return _read(os.path.join(path, manifests.STATE)), None


def _read(path: str) -> Any:
    """Unpickle without restriction: states hold objects of any class, and the file is this job's own."""
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # whatever a class has against it; it is not damaged, that was looked at
        raise RuntimeError(f"checkpoint {path} cannot be loaded: {type(error).__name__}: {error}") from error


def _check(name: str, part: Any) -> None:
    if isinstance(part, dict):
        return
    if not (callable(getattr(part, "state_dict", None)) and callable(getattr(part, "load_state_dict", None))):
        raise TypeError(
            f"Checkpointer: {name}: expected an object with state_dict() and load_state_dict(), a dict or a "
            f"torch.Generator, found {type(part).__name__}; put plain values into a dict"
        )


def _load(part: Any, state: Any) -> None:
    if isinstance(part, dict):
        part.clear()
        part.update(state)
    else:
        _inside(part).load_state_dict(state)


def _inside(part: Any) -> Any:
    """The module inside the wrappers of DDP, DataParallel and torch.compile."""
    import torch

    wrappers = (torch.nn.parallel.DistributedDataParallel, torch.nn.DataParallel)
    while isinstance(part, torch.nn.Module):
        if isinstance(part, wrappers):
            part = part.module
        elif "_orig_mod" in part._modules:
            part = part._modules["_orig_mod"]
        else:
            break
    return part
