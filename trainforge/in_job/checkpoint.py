"""`Checkpointer`: save a training state without stopping for it, and continue from the newest whole one.

    ckpt = trainforge.Checkpointer(model=model, optimizer=optimizer, progress=progress)
    start = ckpt.resume()
    for step in range(start, steps):
        ...
        ckpt.save(step + 1, every=1000)

On disk (`<folder>/step-<step>/`): `state.pt` holds what was given, by name; `rank-<r>.pt` the random
states of a rank; `manifest.json` their sizes and hashes (see `trainforge.in_job.manifests`). Models that are
wrapped for DDP, or compiled, are saved as what is inside, so that the next run may wrap differently and
have another number of ranks. Not for FSDP, whose ranks each hold a part of the model.

Part of the in-job half: standard library only, Python ≥ 3.9; torch is imported when used.
"""

from __future__ import annotations

import copy
import math
import operator
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, SupportsIndex

from trainforge import protocol
from trainforge.in_job import agreement, manifests, parts, publishing, random_states, records, stopping
from trainforge.in_job.manifests import Checkpoint
from trainforge.in_job.publishing import Order
from trainforge.in_job.snapshot import Changed, Snapshot

_KEEP = 3


class Checkpointer:
    """Saves and restores the objects given by name.

    Each is an object with `state_dict()` and `load_state_dict()` (model, optimizer, scheduler,
    GradScaler, …), a dict, for plain values (it is filled in place on resume), a `torch.Generator`
    (each rank has its own), or None, which is left out.

    In a job, checkpoints lie in the job's folder and the number kept is the job file's; outside,
    in `./checkpoints` (or `directory`), and 3. One Checkpointer at a time may use a folder. From its
    making on, SIGTERM only sets the flag that `should_stop()` asks for: a script that makes a Checkpointer
    and never asks goes on until the grace is over.
    """

    def __init__(self, directory: str | None = None, /, *, keep: int | None = None, **objects: Any) -> None:
        folder = directory or os.environ.get(protocol.CHECKPOINT_DIR) or "checkpoints"
        self.directory = os.path.abspath(folder)
        self._keep = int(os.environ.get(protocol.CHECKPOINT_KEEP, _KEEP)) if keep is None else keep
        if self._keep < 1:
            raise ValueError(f"Checkpointer: keep: expected at least 1, found {self._keep}")
        self._parts = parts.Parts(objects)
        self._snapshot = Snapshot()
        self._optimizers = self._parts.optimizers()  # whose states may be copied later
        self._hooked = False
        self._turns: dict[int, int] = {}
        self._writer: threading.Thread | None = None
        self._failure: Exception | None = None
        self._written = True  # the last save, on this rank's part
        self._last = 0  # the step of the last save, or that was resumed
        self._began = 0.0  # when the last save did
        self._waits = 0  # saves in a row that waited for the one before them
        self._told = False  # that training waits for saves
        self._put_off: Callable[[], None] | None = None
        stopping.watch()

    # ------------------------------------------------------------ resume

    def resume(self, exact: bool = False) -> int:
        """Restore the newest whole checkpoint and return its step; 0, and nothing done, where there is none.

        `TRAINFORGE_RESUME_FROM` is the first choice, then those in the folder, the newest first. A
        damaged or unfinished one is skipped with a word. One that is whole but does not fit the
        objects is an error. All ranks call it, and get the same; best after `init_process_group`.

        `exact=True` is for continuing bit for bit: what happens between `resume` and `ready()`
        (making data iterators, which draws random numbers; a warm-up step for DDP) leaves no trace,
        because `ready()` restores everything once more, and the random states only then.
        """
        self.wait()
        path = agreement.decide(self._choose)
        if path is None:
            return 0
        state, rank_state = parts.load(path, records.place()[0])
        self._parts.restore(path, copy.deepcopy(state["objects"]) if exact else state["objects"])

        def finish() -> None:
            if exact:
                self._parts.restore(path, state["objects"])
            if rank_state is not None:
                self._parts.restore_generators(rank_state["generators"])
                random_states.restore(rank_state["random"])

        if exact:
            self._put_off = finish
        else:
            finish()
        step: int = state["step"]
        self._last = step
        records.write(protocol.RESUMED, step=step, path=path)
        return step

    def ready(self) -> None:
        """After `resume(exact=True)`, when the first step is next: restore what was put off."""
        finish, self._put_off = self._put_off, None
        if finish is not None:
            finish()

    def _choose(self) -> str | None:
        for checkpoint in self._candidates():
            problem = manifests.damage(checkpoint)
            if problem is None:
                return checkpoint.path
            records.say(f"checkpoint {checkpoint.path} is skipped: {problem}")
            records.write(protocol.CHECKPOINT_SKIPPED, path=checkpoint.path, problem=problem)
        return None

    def _candidates(self) -> Iterator[Checkpoint]:
        first = os.environ.get(protocol.RESUME_FROM)
        if first:
            yield manifests.read_checkpoint(first)
        for checkpoint in reversed(manifests.find_checkpoints(self.directory)):
            if not first or os.path.realpath(first) != os.path.realpath(checkpoint.path):
                yield checkpoint

    # ------------------------------------------------------------ save

    def save(
        self, step: SupportsIndex, *, metric: float | None = None, every: SupportsIndex | None = None
    ) -> None:
        """Save everything as of now, under this step; all ranks call it at the same step.

        With `every`, which is for calling it after each step, it saves only when it is time: so often that a
        kill at any moment, in the middle of a save too, costs `every` steps at most. For that it saves twice
        in each so many, and waits where a save takes longer than that; with `every=1`, until it is whole.

        Returns when the state is copied to host memory, but for what only the optimizer's next step can
        change, which waits for it. It is written in the background, and a save
        that is still being written is waited for. It appears whole or not at all. With `metric`
        (the larger the better: `metric=-loss`) the best one is kept beside the newest `keep`.
        A disk that is full, or fails, is told on stderr and in the job's events; training goes on and
        the older checkpoints stay. A state that cannot be written at all is raised by the next call.
        """
        number = operator.index(step)
        if number < 0:
            raise ValueError(f"Checkpointer.save: step: expected 0 or more, found {number}")
        interval = None if every is None else operator.index(every)
        if interval is not None and not is_due(number, self._last, interval):
            return
        value = None if metric is None or not math.isfinite(float(metric)) else float(metric)
        self._await_turn()
        if self._put_off is not None:
            records.say("save() before ready(): the random states of the checkpoint were not restored")
            self._put_off = None
        started = self._began = time.monotonic()
        self._last = number
        rank, world_size = records.place()
        turn = self._turns[number] = self._turns.get(number, 0) + 1
        order = Order(self.directory, number, turn, rank, world_size, value, self._keep)
        rank_state = {"generators": self._parts.generator_states(), "random": random_states.capture()}
        objects = self._snapshot.take(self._parts.states(), self._optimizers) if rank == 0 else None
        if self._snapshot.puts_off and not self._hooked:
            self._hooked = True
            for optimizer in self._optimizers.values():
                optimizer.register_step_pre_hook(self._before_step)
        self._start(lambda: self._write(order, rank_state, objects, started))
        if interval == 1:
            self.wait()

    def wait(self) -> None:
        """Return when the last save is whole, or has failed: a kill costs only what comes after it. An error
        for which the state could not be written at all is raised here."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def close(self) -> bool:
        """Wait for the last save. Leaving the interpreter waits too. False, on rank 0, where it could not be
        written: what it held, the end of training perhaps, is on no disk."""
        self.wait()
        self._snapshot = Snapshot()
        return self._written

    def _before_step(self, *_: object) -> None:
        """An optimizer is about to change its state, which may not be copied yet."""
        self._snapshot.await_copies()

    def _await_turn(self) -> None:
        """Saves do not overlap, on which `is_due` counts. Where training waits for them, that is told, once;
        a single wait is none: somebody may save now because it is asked to stop."""
        asked = time.monotonic()
        late = self._writer is not None and self._writer.is_alive()
        self.wait()
        self._waits = self._waits + 1 if late else 0
        if self._waits == 2 and not self._told and records.place()[0] == 0:
            self._told = True
            took, apart = time.monotonic() - self._began, asked - self._began
            records.say(f"training waits for saves: one took {took:.1f} s, the next was due in {apart:.1f}")

    def _start(self, write: Callable[[], None]) -> None:
        self._writer = threading.Thread(target=write, name="trainforge-checkpoint")
        try:
            self._writer.start()
        except RuntimeError:  # the interpreter is leaving and starts no more threads
            self._writer = None
            write()

    def _write(self, order: Order, rank_state: Any, objects: Any, started: float) -> None:
        """Runs in the background: nothing is raised here."""
        self._written = False
        try:
            if order.rank != 0:
                publishing.write_rank(order, rank_state)
                self._written = True
                return
            self._snapshot.finish()
            state = {"step": order.step, "objects": objects}
            checkpoint = publishing.write_all(order, rank_state, state)
        except OSError as error:
            _tell_unwritten(order, error.strerror or str(error))
        except Changed as error:
            _tell_unwritten(order, f"{error}; from now on it is copied at once")
            self._optimizers = {}
        except Exception as error:
            _tell_unwritten(order, f"{type(error).__name__}: {error}")
            self._failure = error
        else:
            self._written = True
            records.write(
                protocol.CHECKPOINT,
                step=checkpoint.step,
                path=checkpoint.path,
                size=checkpoint.size,
                seconds=round(time.monotonic() - started, 3),
                metrics=checkpoint.metrics,
                best=checkpoint.best,
            )


def is_due(step: int, last: int, every: int) -> bool:
    """Whether to save at this step, so that a kill costs `every` steps at most: at the first step after each
    half of so many.

    When training is killed, or waits, at the next save with the last one still being written, the one before
    that is whole, because saves do not overlap; and three in a row span `every` steps.
    """
    if every < 1:
        raise ValueError(f"Checkpointer.save: every: expected 1 or more steps, found {every}")
    return 2 * step // every != 2 * last // every


def _tell_unwritten(order: Order, problem: str) -> None:
    records.say(f"checkpoint {order.path} was not written: {problem}; training goes on")
    records.write(protocol.CHECKPOINT_SKIPPED, path=order.path, problem=f"not written: {problem}")
