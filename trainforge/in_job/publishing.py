"""Write one checkpoint to disk, so that at every moment it is there whole or not there.

Each rank writes its own file into a folder that all of them derive the name of, without talking:
`.tmp`, fsync, rename. Rank 0 adds the rest, waits until every rank's file is there, syncs the folder,
writes the manifest last, and gives the folder its name. Runs in a background thread; no collective
is used. An OSError leaves the earlier checkpoints as they were.

Part of the in-job half: standard library only, Python ≥ 3.9; torch is imported when used.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import math
import os
import shutil
import time
from typing import Any, BinaryIO, NamedTuple

from trainforge import protocol
from trainforge.in_job import durable, manifests, records
from trainforge.in_job.manifests import Checkpoint, File

PATIENCE = 60.0  # seconds that rank 0 waits for the other ranks' files
_FAILED = "rank-{rank}.failed"  # a rank's word to rank 0 that its file will not come


class Order(NamedTuple):
    """One checkpoint to write, the same on all ranks but for `rank`."""

    directory: str
    step: int
    turn: int  # how often this step has been saved before by this run
    rank: int
    world_size: int
    metric: float | None
    keep: int

    @property
    def path(self) -> str:
        """Where it will be."""
        return os.path.join(self.directory, manifests.folder_name(self.step))

    @property
    def staging(self) -> str:
        """Where it is written: no other run, and no other save of this one, uses this folder."""
        name = f"{manifests.SAVING}{self.step:010d}-{_run_token()}-{self.turn}"
        return os.path.join(self.directory, name)


def write_rank(order: Order, state: Any) -> None:
    """What ranks other than 0 do. Where it fails, rank 0 is told, as far as possible."""
    name = manifests.RANK_FILE.format(rank=order.rank)
    try:
        os.makedirs(order.staging, exist_ok=True)
        _write(order.staging, name, state)
    except Exception:
        with contextlib.suppress(OSError):
            open(os.path.join(order.staging, _FAILED.format(rank=order.rank)), "w").close()
        raise


def write_all(order: Order, rank_state: Any, state: Any) -> Checkpoint:
    """What rank 0 does: write, wait for the others, publish, remove what is too many."""
    with contextlib.suppress(OSError):
        _remove_abandoned(order.directory)
    try:
        os.makedirs(order.staging, exist_ok=True)
        own = manifests.RANK_FILE.format(rank=0)
        files = [_write(order.staging, manifests.STATE, state), _write(order.staging, own, rank_state)]
        files += [_await_rank(order, rank) for rank in range(1, order.world_size)]
        checkpoint = _publish(order, files)
    except Exception:
        shutil.rmtree(order.staging, ignore_errors=True)
        raise
    with contextlib.suppress(OSError):
        _remove_surplus(order.directory, order.keep)
    return checkpoint


# ---------------------------------------------------------------- files


class _Sink:
    """The file that torch writes to. Hashes what passes; an error of the disk is kept for later, because
    torch's writer would turn it into one that no longer says what happened."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.summed = hashlib.sha256()
        self.size = 0
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        length = memoryview(data).nbytes
        if self.error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = error
        self.summed.update(data)
        self.size += length
        return length

    def flush(self) -> None:
        """Done once, at the end."""


def _write(folder: str, name: str, state: Any) -> File:
    import torch

    path = os.path.join(folder, name)
    with open(f"{path}.tmp", "wb", buffering=2**20) as file:
        sink = _Sink(file)
        torch.save(state, sink)
        if sink.error is not None:
            raise sink.error
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{path}.tmp", path)
    return File(name, sink.size, sink.summed.hexdigest())


def _await_rank(order: Order, rank: int) -> File:
    name = manifests.RANK_FILE.format(rank=rank)
    path = os.path.join(order.staging, name)
    deadline = time.monotonic() + PATIENCE
    pause = 0.001
    while not os.path.exists(path):
        if os.path.exists(os.path.join(order.staging, _FAILED.format(rank=rank))):
            raise OSError(errno.EIO, f"rank {rank} could not write its file")
        if time.monotonic() > deadline:
            late = f"nothing from rank {rank} in {PATIENCE:.0f} s (all ranks have to call save)"
            raise OSError(errno.ETIMEDOUT, late)
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    return File(name, os.path.getsize(path), manifests.digest(path))


# ---------------------------------------------------------------- publishing


def _publish(order: Order, files: list[File]) -> Checkpoint:
    """Write the manifest: from then on the checkpoint is whole. Then give it its name."""
    earlier = [checkpoint for checkpoint in manifests.find_checkpoints(order.directory) if checkpoint.files]
    checkpoint = Checkpoint(
        path=order.path,
        step=order.step,
        time=max([time.time(), *(checkpoint.time + 1e-3 for checkpoint in earlier)]),
        world_size=order.world_size,
        files=tuple(files),
        metrics=None if order.metric is None else {"metric": order.metric},
        best=_is_best(order.metric, earlier),
    )
    durable.sync_folder(order.staging)
    durable.write_durably(os.path.join(order.staging, protocol.MANIFEST), manifests.to_json(checkpoint))
    _make_way(order)
    os.rename(order.staging, order.path)
    durable.sync_folder(order.directory)
    return checkpoint


def _is_best(metric: float | None, earlier: list[Checkpoint]) -> bool:
    usable = (checkpoint.metrics for checkpoint in earlier if checkpoint.problem is None)
    others = [metrics["metric"] for metrics in usable if metrics and "metric" in metrics]
    return metric is not None and metric > max(others, default=-math.inf)


# ---------------------------------------------------------------- removing


def _make_way(order: Order) -> None:
    """Free the name, where this step was saved before. A folder that is no checkpoint is kept beside it."""
    if os.path.exists(os.path.join(order.path, protocol.MANIFEST)):
        _remove(order.path)
    elif os.path.lexists(order.path):
        os.rename(order.path, f"{order.path}.old-{time.time_ns()}")


def _remove(path: str) -> None:
    """Remove a checkpoint: at once as far as readers can see."""
    directory, name = os.path.split(path)
    grave = os.path.join(directory, f"{manifests.REMOVING}{name}-{time.time_ns()}")
    os.rename(path, grave)
    shutil.rmtree(grave, ignore_errors=True)


def _remove_abandoned(directory: str) -> None:
    """Remove what earlier runs did not finish writing, or removing."""
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if name.startswith(manifests.REMOVING) or _abandoned(path, name):
            shutil.rmtree(path, ignore_errors=True)


def _remove_surplus(directory: str, keep: int) -> None:
    """Leave the newest `keep` and the best, and no damaged one that is older."""
    found = [checkpoint for checkpoint in manifests.find_checkpoints(directory) if checkpoint.files]
    whole = [checkpoint for checkpoint in found if checkpoint.problem is None]
    best = [checkpoint for checkpoint in whole if checkpoint.best][-1:]
    oldest_kept = min((checkpoint.time for checkpoint in whole[-keep:]), default=-math.inf)
    for checkpoint in found:
        if checkpoint.time < oldest_kept and checkpoint not in best:
            _remove(checkpoint.path)


def _abandoned(path: str, name: str) -> bool:
    """True for what a killed run left half-written. Other ranks may be writing into a folder of this run."""
    if not name.startswith(manifests.SAVING) or f"-{_run_token()}-" in name:
        return False
    return not os.path.exists(os.path.join(path, protocol.MANIFEST))


@functools.cache
def _run_token() -> str:
    """The same on all ranks of this run, and never again: made from the attempt, else from the life of
    the process that all ranks have in common, their parent."""
    token = os.environ.get(protocol.TOKEN)
    if token is None:
        common = os.getpid() if records.place()[1] == 1 else os.getppid()
        with open(f"/proc/{common}/stat") as file:
            started = file.read().rpartition(")")[2].split()[19]
        token = f"{common}:{started}"
    return hashlib.sha256(token.encode()).hexdigest()[:8]
