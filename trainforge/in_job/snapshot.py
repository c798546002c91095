"""Copy a training state into host memory, so that training can go on while it is written.

Promises that what `take` returns never changes, until the next `take` writes over it: the host memory
is kept and used again, since fresh memory costs more than the copying. Tensors on the host are noted
while the state is walked and copied together at its end (see `host_memory`).

Of the optimizers of torch the states (momentum and the like: half of all bytes, or more) are copied later, by
`finish` in the background: nothing but the optimizer's next step changes them, and that waits for it. Should
something else change one in that time, it is noticed, and the copy is no copy.

Part of the in-job half: standard library only, Python ≥ 3.9; torch is imported when used.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Collection
from typing import Any

from trainforge.in_job.host_memory import Arena, Copy, copy_all

Path = tuple[Any, ...]
_WORTH_IT = 2**16  # bytes: what is smaller is copied at once


class Changed(Exception):
    """Something changed an optimizer's state, beside its `step()`, before it was copied."""


class Snapshot:
    """Host memory for one state. Not for several threads at once, but for `finish` and `await_copies`."""

    def __init__(self) -> None:
        self._buffers: dict[Path, Any] = {}
        self._used: dict[Path, Any] = {}
        self._shared: dict[tuple[Any, ...], Any] = {}  # tied tensors are copied once
        self._copies: list[Copy] = []
        self._later: list[tuple[Copy, Any, int]] = []  # with the tensor, and the version that is meant
        self._put_off: Collection[str] = ()
        self._copied = threading.Event()
        self._copied.set()
        self._arena = Arena()
        self._devices: set[Any] = set()
        self._events: list[Any] = []

    def take(self, state: dict[str, Any], put_off: Collection[str] = ()) -> Any:
        """A copy of the state, to be read after `finish`: until then copies from a GPU are under way, and
        those of the optimizers named in `put_off` have not begun.

        Copies from a GPU are queued on the current stream: what it is given afterwards cannot change them.
        """
        import torch

        self._used, self._shared, self._copies, self._devices = {}, {}, [], set()
        self._later, self._put_off = [], put_off
        with torch.no_grad():
            result = self._copy(state, ())
            copy_all(self._copies)
        self._buffers, self._copies = self._used, []
        self._events = [_mark(device) for device in self._devices]
        if self._later:
            self._copied.clear()
        return result

    @property
    def puts_off(self) -> bool:
        """Whether something is left to `finish`."""
        return not self._copied.is_set()

    def finish(self) -> None:
        """Return when everything has arrived in host memory; raises Changed. Once after each `take`, from
        whatever thread."""
        try:
            copy_all([order for order, _, _ in self._later])
            changed = any(tensor._version != version for _, tensor, version in self._later)
        finally:
            self._later = []
            self._copied.set()
        if changed:
            raise Changed("the state of an optimizer was changed while it was copied")
        for event in self._events:
            event.synchronize()

    def await_copies(self, *_: object) -> None:
        """Return when what was put off is copied. Before each step of an optimizer."""
        self._copied.wait()

    def _copy(self, value: Any, path: Path) -> Any:
        import torch

        if isinstance(value, torch.Tensor):
            return self._copy_tensor(value, path)
        if isinstance(value, dict):
            clone = copy.copy(value)  # keeps the type, and the versions that a module's state carries
            for key, item in value.items():
                clone[key] = self._copy(item, (*path, key))
            return clone
        if type(value) in (list, tuple):
            return type(value)(self._copy(item, (*path, index)) for index, item in enumerate(value))
        return copy.deepcopy(value)

    def _copy_tensor(self, tensor: Any, path: Path) -> Any:
        import torch

        if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.layout is not torch.strided:
            return copy.deepcopy(tensor.detach())
        source = tensor.detach()
        later = len(path) > 1 and path[0] in self._put_off and path[1] == "state"
        identity = (later, source.device, source.data_ptr(), source.dtype, source.shape, source.stride())
        if source.numel() and identity in self._shared:
            return self._shared[identity]
        target = self._buffer(source, path)
        if source.device.type == "cpu" and target.stride() == source.stride() and _is_dense(source):
            order = Copy(target.data_ptr(), source.data_ptr(), source.numel() * source.element_size())
            if later and order.size >= _WORTH_IT:
                self._later.append((order, source, source._version))
            else:
                self._copies.append(order)
        else:
            on_gpu = source.device.type == "cuda"
            target.copy_(source, non_blocking=on_gpu and target.is_pinned())
            if on_gpu:
                self._devices.add(source.device)
        self._used[path] = self._shared[identity] = target
        return target

    def _buffer(self, source: Any, path: Path) -> Any:
        kept = self._buffers.get(path)
        if kept is not None and (kept.dtype, kept.shape) == (source.dtype, source.shape):
            return kept
        if source.device.type == "cpu" and _is_dense(source) and source.numel():
            return self._arena.like(source)
        return _host_memory(source)


def _is_dense(tensor: Any) -> bool:
    """Whether the elements are plain bytes without gaps between them, in whatever order of dimensions."""
    if tensor.is_conj() or tensor.is_neg():
        return False
    if tensor.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def _host_memory(source: Any) -> Any:
    """Memory for a copy; page-locked for a GPU's, where there is enough of it."""
    import torch

    if source.device.type == "cuda":
        try:
            return torch.empty_like(source, device="cpu", pin_memory=True)
        except RuntimeError:
            pass
    return torch.empty_like(source, device="cpu")


def _mark(device: Any) -> Any:
    import torch

    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event
