"""Host memory for copies of tensors, and the copying: several threads, each over pieces of all of them.

torch would copy one tensor after another, all threads on each: they wait for each other once per tensor,
which on a busy machine costs a time slice every time.

Part of the in-job half: standard library only, Python ≥ 3.9; torch is imported when used.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import threading
from collections.abc import Iterable
from typing import Any, NamedTuple

_PIECE = 4 * 2**20  # bytes a thread takes at a time
_BLOCK = 64 * 2**20  # bytes asked of the system at a time
_ALIGNMENT = 64  # bytes: a line of the processor's cache
_MOST_THREADS = 8  # beyond these the memory is the limit


class Copy(NamedTuple):
    """Bytes to copy, by address. Who orders it keeps both ends alive."""

    target: int
    source: int
    size: int


def copy_all(copies: Iterable[Copy]) -> None:
    """Returns when everything is copied. Small ones are not worth a second thread."""
    pieces = [piece for order in copies for piece in _pieces(order)]
    remaining = iter(pieces)
    helpers = min(_MOST_THREADS, len(os.sched_getaffinity(0)), len(pieces)) - 1
    threads = [threading.Thread(target=_work, args=(remaining,), daemon=True) for _ in range(helpers)]
    started = []
    for thread in threads:
        try:
            thread.start()
        except RuntimeError:  # the interpreter is leaving and starts no more threads
            break
        started.append(thread)
    _work(remaining)
    for thread in started:
        thread.join()


def _pieces(order: Copy) -> Iterable[Copy]:
    for start in range(0, order.size, _PIECE):
        yield Copy(order.target + start, order.source + start, min(_PIECE, order.size - start))


def _work(pieces: Iterable[Copy]) -> None:
    """Take pieces until there are none: the next of a list's iterator is one step of the interpreter."""
    for piece in pieces:
        ctypes.memmove(piece.target, piece.source, piece.size)  # other threads run meanwhile


class Arena:
    """Memory that is handed out piece by piece and given back all at once, when nothing refers to it.

    In large pages where the system has them: getting them is most of what a first save costs."""

    def __init__(self) -> None:
        self._block: Any = b""
        self._used = 0

    def like(self, tensor: Any) -> Any:
        """A tensor on the host of the same shape, strides and type; its contents are whatever they are. It
        has a storage of its own, as `torch.save` writes whole storages."""
        import torch

        size = tensor.numel() * tensor.element_size()
        if self._used + size > len(self._block):
            self._block, self._used = _new_block(max(_BLOCK, size)), 0
        flat = torch.frombuffer(self._block, dtype=tensor.dtype, count=tensor.numel(), offset=self._used)
        self._used += -(-size // _ALIGNMENT) * _ALIGNMENT
        return torch.as_strided(flat, tensor.shape, tensor.stride())


def _new_block(size: int) -> mmap.mmap:
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(AttributeError, OSError):  # an old kernel, or one without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
