"""Compiled passes, and recorded ones (CUDA graphs): whether a run is trusted to them.

They are faster, and stand on a compiler, a driver and caches, of which each may be missing, or wrong. So
steps of theirs are tried beside a plain one, from the same weights on the same images. Whatever comes of it,
weights, optimizer and random generators are afterwards as before, to the bit, and no batch is used up.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

import fit
import trainforge
from feeding import orders
from ranks import Ranks
from settings import Settings, SettingsError

if TYPE_CHECKING:
    from train import Trainer

NOTE = "compiling"  # a file beside the checkpoints: how many attempts in a row have ended in a trial
MOST_ENDS = 2  # one may have had another reason
PATIENCE = 20 * 60.0  # seconds, after which a trial is taken to hang
BEFORE = 3  # steps: the first compiles, the second records, the third plays back

# What a step gives may differ from what the plain one does by FLOOR, and by NOISE times what rounding makes
# of it. From LIMIT on it is something else: a gradient that is missing, or counted twice, is off by 1.
FLOOR, NOISE, LIMIT = 0.02, 3.0, 0.9
ROUNDING = 2.0**-8  # of bfloat16; convolutions of float32 on a GPU (TF32) round at a fourth of it


def settle(trainer: Trainer) -> None:
    """Compile the passes of a run, where that is wanted, and try them on its epoch's first images. Where they
    have to stay plain, the run's settings say so afterwards. Raises SettingsError where COMPILE was asked for
    and cannot be had.

    Among several ranks, where a failure on one would leave the others waiting, nothing is tried."""
    ranks, progress, folder = trainer.ranks, trainer.progress, trainer.checkpointer.directory
    if ranks.count > 1:
        compile_model(trainer.model, trainer.settings, ranks)
        return
    update = partial(trainer.update, trainer.settings.learning_rate)
    while trainer.settings.compile and not progress.is_over(trainer.settings):
        places = orders(trainer.settings, ranks, len(trainer.source), 0)
        batch = next(trainer.source.feed(progress.epoch, places))
        trial = Trial(trainer.model, trainer.optimizer, trainer.learn, update)
        if settled := judge(trainer.settings, ranks, folder, trial, *batch):
            trainer.settings = settled
            break
        trainer.take_less()
    progress.compiled = trainer.settings.compile


def judge(
    settings: Settings, ranks: Ranks, folder: str, trial: Trial, images: Tensor, targets: Tensor
) -> Settings | None:
    """What becomes of the settings; None where memory ran out, for half as many images to be tried."""
    asked = settings.sources["compile"] == "environment"
    if not asked and (ends := fit.read_note(folder, NOTE)) >= MOST_ENDS:
        return without(settings, f"{ends} attempts ended while it was tried")
    with watched(folder, asked):
        found = trial.run(settings, ranks, images, targets)
    if found.no_room and settings.part > 1:
        if not fit.can_halve(folder, settings, ranks):  # others took it
            raise torch.cuda.OutOfMemoryError(found.failure)
        return None
    if found.failure and asked:
        raise SettingsError(f"COMPILE: true, but it failed: {found.failure}")
    if found.failure:
        return without(settings, f"it failed: {found.failure}")
    if found.doubt and not asked:
        forget(trial.model)
        return without(settings, f"its step was not the plain one: {found.doubt}")
    if found.doubt:
        print(
            f"COMPILE: true, so it is done, though its step was not the plain one: {found.doubt}", flush=True
        )
    return settings


@contextlib.contextmanager
def watched(folder: str, asked: bool) -> Iterator[None]:
    """An attempt that hangs or dies in here, or loses the device, is known to the next one by the note."""
    print("compiling, which may take some minutes the first time", flush=True)
    fit.write_note(folder, fit.read_note(folder, NOTE) + 1, NOTE)
    if not asked:
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
    try:
        with trainforge.phase("compile"):
            yield
    finally:
        faulthandler.cancel_dump_traceback_later()
    fit.write_note(folder, 0, NOTE)


def without(settings: Settings, why: str) -> Settings:
    print(f"nothing is compiled: {why}", flush=True)
    sources = {**settings.sources, "compile": f"auto: {why}"}
    return dataclasses.replace(settings, compile=False, sources=sources)


class Outcome(NamedTuple):
    """Of a trial. All empty: compiled passes do what plain ones do."""

    failure: str = ""
    no_room: bool = False  # the failure is that memory ran out
    doubt: str = ""


class Trial:
    """`learn` adds gradients to the weights by a call of the model, and returns loss and logits; `update`
    moves the weights by them, and returns the gradient's length."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        learn: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        update: Callable[[], Tensor | None],
    ) -> None:
        self.model, self.optimizer, self.learn, self.update = model, optimizer, learn, update
        # On the host, so that a trial takes no memory that training would not.
        self.before = {name: copied(tensor) for name, tensor in model.state_dict().items()}
        self.momenta = {
            weight: {name: copied(value) for name, value in state.items()}
            for weight, state in optimizer.state.items()
        }
        self.generators = generators()

    def run(self, settings: Settings, ranks: Ranks, images: Tensor, targets: Tensor) -> Outcome:
        """The model stays compiled unless that failed. Raises what plain passes raise, and when the device is
        lost."""
        forget(self.model)
        plainly = True
        try:
            plain = self.try_step(images, targets)
            rounded = self.try_step(images * (1 + ROUNDING), targets)
            plainly = False
            torch.cuda.empty_cache()  # recordings have memory of their own
            compile_model(self.model, settings, ranks)
            others = torch.empty_like(images).copy_(-images.roll(1, 0))  # to which a recording must not keep
            for _ in range(BEFORE):
                self.try_step(others, targets)
            return Outcome(doubt=difference(self.try_step(images, targets), plain, rounded))
        except Exception as error:  # compilers and drivers have no kind in common
            outcome = Outcome(in_a_line(error), fit.ran_out(error))
            if plainly and not outcome.no_room:
                raise
        self.restore()
        forget(self.model)
        return outcome

    def try_step(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """What a step gives, on the host; all is put back."""
        try:
            loss, logits = self.learn(images, targets)
            gradient = torch.cat([copied(weight.grad).flatten() for weight in self.model.parameters()])
            norm = self.update()
            weights = {name for name, _ in self.model.named_parameters()}
            changes: dict[bool, list[Tensor]] = {True: [], False: [torch.zeros(1)]}
            for name, tensor in self.model.state_dict().items():
                if tensor.is_floating_point():
                    changes[name in weights].append((copied(tensor) - self.before[name]).flatten())
            return {
                "the loss": copied(loss),
                "what the model gave": copied(logits),
                "the gradient's length": copied(norm),
                "the gradient": gradient,
                "the change of the weights": torch.cat(changes[True]),
                "the change of the statistics": torch.cat(changes[False]),
                "random numbers": torch.cat(generators()),
            }
        finally:
            self.restore()

    @torch.no_grad()
    def restore(self) -> None:
        """In place: recordings know where tensors lie."""
        for name, tensor in self.model.state_dict().items():
            tensor.copy_(self.before[name])
        for weight in [*self.optimizer.state]:
            if weight not in self.momenta:
                del self.optimizer.state[weight]
                continue
            for name, value in self.momenta[weight].items():
                if isinstance(value, Tensor):
                    self.optimizer.state[weight][name].copy_(value)
                else:
                    self.optimizer.state[weight][name] = value
        self.optimizer.zero_grad()
        torch.set_rng_state(self.generators[0])
        for state in self.generators[1:]:
            torch.cuda.set_rng_state(state)


def difference(found: dict[str, Tensor], plain: dict[str, Tensor], rounded: dict[str, Tensor]) -> str:
    """In what a step is not the plain one; `rounded`: the plain one, from images moved by a rounding."""
    for name, expected in plain.items():
        if expected.dtype == torch.uint8:
            off, allowed = float(not torch.equal(found[name], expected)), 0.0
        else:
            off = distance(found[name], expected)
            allowed = min(LIMIT, max(FLOOR, NOISE * distance(rounded[name], expected)))
        if not off <= allowed:  # nor is what is no number
            return f"{name} was off by {off:.1%}, where {allowed:.1%} would do"
    return ""


def distance(one: Tensor, other: Tensor) -> float:
    """As a share of the other's length."""
    return float((one - other).double().norm() / other.double().norm().clamp_min(1e-30))


def copied(value: Any) -> Any:
    return value.detach().to("cpu", copy=True) if isinstance(value, Tensor) else value


def generators() -> list[Tensor]:
    """The states of torch's random generators: the host's, and this rank's GPU's."""
    gpu = [torch.cuda.get_rng_state()] if torch.cuda.is_available() else []
    return [torch.get_rng_state(), *gpu]


def in_a_line(error: Exception) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first:.200}"


def compile_model(model: nn.Module, settings: Settings, ranks: Ranks) -> None:
    """Let calls of the model be compiled, if that is wanted; `model.forward` stays as it is.

    On a GPU whole passes are recorded, else it waits for the launches of small batches (CUDA graphs). A
    recording puts gradients where they were the last time, so those of parts could not be added up."""
    if settings.compile:
        recorded = ranks.on_gpu and ranks.count == settings.parts == 1
        model.compile(dynamic=False, mode="reduce-overhead" if recorded else "default")


def forget(model: nn.Module) -> None:
    """Let calls of the model be plain, and give back what compiled ones held. torch has no public way."""
    model._compiled_call_impl = None
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()
    torch.cuda.empty_cache()
