"""What train.py stands on: its place in the run, the optimizer and its rate, the mean of weights."""

from __future__ import annotations

import copy
import json
import math
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metrics import Scores
from settings import Settings, SettingsError


@dataclass
class Progress:
    """Where training stands: beside weights and optimizer, all that a resumed run needs for its next batch.

    An incomplete batch at the end of an epoch is left out: other images in each."""

    identity: str  # of what cannot change on the way
    images: int  # for training
    batch_size: int
    step: int = 0
    epoch: int = 0  # epochs that are over
    position: int = 0  # images of this epoch that were trained on
    seconds: float = 0.0  # of training in this epoch
    scores: Scores = field(default_factory=Scores)  # on the training images, in this epoch
    compiled: bool | None = None  # whether passes on one rank are, once that is known

    @property
    def steps_per_epoch(self) -> int:
        return self.images // self.batch_size

    @property
    def steps_left(self) -> int:
        """In this epoch."""
        return (self.images - self.position) // self.batch_size

    @property
    def now(self) -> tuple[int, int]:
        """The step, and how many of today's batch size led here; an epoch's last counts once that is over."""
        in_epoch = min(self.position // self.batch_size, self.steps_per_epoch - 1)
        return self.step, self.epoch * self.steps_per_epoch + in_epoch

    def is_over(self, settings: Settings) -> bool:
        return self.epoch >= settings.epochs or 0 < settings.max_steps <= self.step

    def steps_at_end(self, epochs: int) -> int:
        """The number of the last step of the last epoch."""
        return self.step + self.steps_left + (epochs - self.epoch - 1) * self.steps_per_epoch

    def place(self, settings: Settings) -> dict[str, int]:
        """Where the run is and where it will end, in the words of a report."""
        steps = self.steps_at_end(settings.epochs)
        steps = min(steps, settings.max_steps or steps)
        return {"step": self.step, "steps": steps, "epoch": self.epoch, "epochs": settings.epochs}

    def outlook(self, settings: Settings, folder: str) -> str:
        """Where the run begins, for people."""
        if not self.step:
            return "a new run"
        if self.is_over(settings):
            return f"it is at its end, step {self.step}; a new run wants {folder} gone"
        return f"going on after step {self.step}, in epoch {self.epoch + 1} of {settings.epochs}"

    def next_epoch(self) -> None:
        self.epoch, self.position, self.seconds, self.scores = self.epoch + 1, 0, 0.0, Scores()

    def state_dict(self) -> dict[str, Any]:
        return {**vars(self), "scores": [*self.scores]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["identity"] != self.identity:
            raise SettingsError(f"the checkpoint is of {state['identity']}; this run is of {self.identity}")
        vars(self).update(state, scores=Scores(*state["scores"]))


def keep_record(folder: str, settings: Settings, identity: str) -> None:
    """What this attempt was told to do, and on which images, beside its checkpoints: `settings.json`."""
    knobs = {name: {"value": value, "source": source} for name, value, source in settings.rows()}
    path = Path(folder, "settings.json")
    try:
        os.makedirs(folder, exist_ok=True)
        path.with_suffix(".tmp").write_text(json.dumps({"run": identity, "knobs": knobs}, indent=1))
        path.with_suffix(".tmp").replace(path)
    except OSError as error:
        print(f"{path} was not written: {error.strerror}", file=sys.stderr)


class WeightAverage:
    """A running mean of weights and statistics (EMA), which often tests better than the last of them.

    In the first steps it forgets faster, so as not to remember the start: (1 + n) / (10 + n) at most."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = copy.deepcopy(model).requires_grad_(False), decay
        self.kept, self.new = floats(self.model), floats(model)
        self.restored = False

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """The model has made this step."""
        torch._foreach_lerp_(self.kept, self.new, 1 - min(self.decay, (1 + step) / (10 + step)))

    @torch.no_grad()
    def restart(self) -> None:
        """Begin with the weights as they are."""
        torch._foreach_copy_(self.kept, self.new)

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = self.model.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state)
        self.restored = True


def floats(model: nn.Module) -> list[torch.Tensor]:
    """Weights and statistics, without the counters."""
    tensors = [*model.parameters(), *model.buffers()]
    return [tensor.detach() for tensor in tensors if tensor.is_floating_point()]


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    rate, momentum = settings.learning_rate, settings.momentum
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, rate, betas=(momentum, 0.999), fused=True)
    return torch.optim.SGD(groups, rate, momentum, nesterov=momentum > 0, fused=True)


def learning_rate(settings: Settings, epoch: float) -> float:
    """The rate of the step that ends at `epoch`, fractions included. It depends on nothing else: there is no
    scheduler's state to save, and a resumed run may change any knob."""
    highest, warmup, epochs = settings.learning_rate, settings.warmup_epochs, settings.epochs
    if epoch < warmup:
        return highest * epoch / warmup
    if settings.schedule == "cosine":
        return highest * 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / max(epochs - warmup, 1e-9)))
    if settings.schedule == "step":  # as for Wide ResNets: a fifth after 30, 60 and 80 % of the epochs
        return highest * 0.2 ** sum(epoch > share * epochs for share in (0.3, 0.6, 0.8))
    return highest


def divergence(loss: float, step: int, settings: Settings) -> str:
    """What to do about a loss that is no number; nothing where it is one."""
    if math.isfinite(loss):
        return ""
    return (
        f"the loss is {loss} at step {step}: lower LEARNING_RATE (it is {settings.learning_rate:g}), "
        f"lengthen WARMUP_EPOCHS, or set GRADIENT_CLIPPING"
    )
