"""Let all ranks come to the same answer, where torch.distributed is initialised.

These are collectives: every rank calls them at the same point. They run on the host, over a gloo
group of their own, so that they neither wait for a GPU nor mix with the script's collectives.
Without torch.distributed, or with one rank, each process answers for itself and nothing is imported.

Part of the in-job half: standard library only, Python ≥ 3.9.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def any_rank(flag: bool) -> bool:
    """True on every rank when `flag` is True on at least one."""
    group = _control_group()
    if group is None:
        return flag
    import torch

    value = torch.tensor([int(flag)], dtype=torch.int32, device=_device(group))
    torch.distributed.all_reduce(value, op=torch.distributed.ReduceOp.MAX, group=group)
    return bool(value.item())


def decide(choose: Callable[[], str | None]) -> str | None:
    """What `choose` answers on rank 0, which alone calls it. It must not raise: the others would wait."""
    group = _control_group()
    if group is None:
        return choose()
    import torch.distributed

    box = [choose() if torch.distributed.get_rank() == 0 else None]
    torch.distributed.broadcast_object_list(box, src=0, group=group, device=_device(group))
    return box[0]


class _Control:
    """The group in use, and the script's default group it was made for: a script may start over."""

    world: Any = None
    group: Any = None


def _control_group() -> Any:
    """The group to talk over, or None where there is nobody to talk to. Its making is a collective too."""
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    if distributed.get_world_size() == 1:
        return None
    world = distributed.group.WORLD
    if _Control.world is not world:
        gloo = distributed.is_gloo_available()
        _Control.group = distributed.new_group(backend="gloo") if gloo else world
        _Control.world = world
    return _Control.group


def _device(group: Any) -> Any:
    """Where the group's backend wants its tensors."""
    import torch

    on_host = torch.distributed.get_backend(group) in ("gloo", "mpi")
    return torch.device("cpu" if on_host else "cuda")
