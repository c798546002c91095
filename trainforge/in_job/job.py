"""What a script tells its job, and asks of it: `report`, `phase`, `should_stop`.

Everything works outside a job too: `report` and `phase` print, `should_stop` answers to Ctrl-C.
Nothing here raises because the disk is full, and nothing imports torch.

Part of the in-job half: standard library only, Python ≥ 3.9.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, SupportsFloat

from trainforge import protocol
from trainforge.in_job import agreement, records, stopping

if TYPE_CHECKING:
    from trainforge.in_job.eventfiles import EventFiles

_POSITION = frozenset({"step", "steps", "epoch", "epochs"})


def report(**numbers: SupportsFloat) -> None:
    """Say where training stands and what was measured: `report(step=10, steps=500, loss=0.7)`.

    `step`, `steps`, `epoch`, `epochs` are the position (finite); every other name is a metric, where
    NaN and infinity are legal. A value is whatever `float()` takes but text: a number, a NumPy
    scalar, a tensor with one element (a tensor on a device makes this wait for the device, so report
    every few steps). Anything else is a TypeError that names the key.

    Every rank may call it; the job shows the metrics of rank 0. Costs a few microseconds and never
    fails for want of disk space. Outside a job, rank 0 prints one line.
    """
    position: dict[str, int | float] = {}
    metrics: dict[str, float] = {}
    for name, value in numbers.items():
        if name in _POSITION:
            position[name] = value if type(value) is int else _position(name, value)
        else:
            metrics[name] = value if type(value) is float else _number(name, value)
    if records.in_job():
        records.write(protocol.REPORT, **position, metrics=metrics)
        curves = _curves.files if _curves.found else _curves.find()
        if curves is not None:
            curves.add(position, metrics)
    elif numbers and records.rank() == 0:
        print(_line(position, metrics), flush=True)


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """Announce work without steps, so that its silence is not taken for a hang: `with phase("evaluate"):`.

    Phases may nest. Outside a job, rank 0 prints how long it took.
    """
    if not isinstance(name, str):
        raise TypeError(f"trainforge.phase: expected the name of the phase, found {name!r}")
    started = time.monotonic()
    records.write(protocol.PHASE, name=name, state="begin")
    try:
        yield
    finally:
        records.write(protocol.PHASE, name=name, state="end")
        if not records.in_job() and records.rank() == 0:
            print(f"{name}: {time.monotonic() - started:.1f} s", flush=True)


def should_stop() -> bool:
    """True once the job was asked to stop: save, and leave the loop. Stays True.

    Where torch.distributed is initialised with several ranks this is a collective: all ranks call
    it at the same point and all get the same answer, True if any of them was asked. It costs a
    round trip between the ranks on the host (no GPU is waited for); in a loop of very short steps
    call it every few steps.

    The first call, to be made in the main thread, takes over SIGTERM; until then SIGTERM ends the
    process as usual (see `trainforge.in_job.stopping`). Outside a job it takes Ctrl-C too: the first asks
    to stop, the second interrupts.
    """
    stopping.watch()
    if _agreed.stop:
        return True
    if not agreement.any_rank(stopping.requested()):
        return False
    _agreed.stop = True
    records.write(protocol.STOPPING)
    return True


class _Curves:
    """What rank 0 leaves for TensorBoard, where that is installed. Once per process."""

    found = False
    files: EventFiles | None = None
    _finding = threading.Lock()

    def find(self) -> EventFiles | None:
        with self._finding:
            folder = os.environ.get(protocol.JOB_DIR)
            wanted = records.rank() == 0 and folder and importlib.util.find_spec("tensorboard") is not None
            if wanted and folder and not self.found:
                from trainforge.in_job import eventfiles

                self.files = eventfiles.EventFiles(os.path.join(folder, eventfiles.FOLDER))
            self.found = True
        return self.files


_curves = _Curves()


class _Agreed:
    stop = False  # all ranks know


_agreed = _Agreed()


def _position(name: str, value: SupportsFloat) -> int | float:
    number = _number(name, value)
    if not math.isfinite(number):
        raise ValueError(f"trainforge.report: {name}: expected a finite number, found {number}")
    return int(number) if number.is_integer() else number


def _number(name: str, value: SupportsFloat) -> float:
    """`float(value)`, but text is no number, and the error names the key."""
    scalar: Any = value
    try:
        item = getattr(value, "item", None)
        if (
            item is not None
        ):  # of torch and NumPy; unlike float(), it has no objection to a loss with its graph
            scalar = item()
        if not isinstance(scalar, (str, bytes, bytearray)):
            return float(scalar)
    except (TypeError, ValueError, OverflowError):
        pass
    except RuntimeError:  # torch's word for "more than one element", and for what failed on the device
        if math.prod(getattr(value, "shape", ())) == 1:
            raise
    shape = getattr(value, "shape", None)
    found = f"of shape {tuple(shape)}" if shape else f"{value!r:.60}"
    raise TypeError(f"trainforge.report: {name}: expected one number, found {type(value).__name__} {found}")


def _line(position: dict[str, int | float], metrics: dict[str, float]) -> str:
    """A report for people: `epoch 1/3  step 20/60  loss 0.693`."""
    words = [
        f"{name} {position[name]}" + (f"/{position[f'{name}s']}" if f"{name}s" in position else "")
        for name in ("epoch", "step")
        if name in position
    ]
    words += [f"{name} {value:.6g}" for name, value in metrics.items()]
    return "  ".join(words)
