"""The knobs: one typed configuration, read from environment variables and checked whole.

`Settings.read` gives a complete configuration, in which nothing is left to be decided later, or every
problem at once.
To add a knob, add a field: its default is written the way a user would write it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import math
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from data import DATASETS, DataError
from kinds import (
    ABOVE_0,
    BATCH,
    DECAY,
    FIT,
    FLAG,
    FROM_0,
    INTERVAL,
    SHARE,
    Interval,
    Kind,
    auto,
    choice,
    optional,
    strength,
    whole,
)
from model import MODELS

TO_BE_FOUND = "auto: to be found"
EPOCHS_TO_COMPILE = 10  # compiling takes as long as some epochs


class SettingsError(Exception):
    """What is wrong with the environment, one line for each variable."""


def knob(default: str, kind: Kind, about: str) -> Any:
    return dataclasses.field(metadata={"default": default, "kind": kind, "about": about})


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run does. A batch is what all ranks do together between two optimiser steps."""

    model: str = knob("resnet18", choice(*MODELS), "the network")
    dataset: str = knob("cifar100", choice(*DATASETS), "the images; digits needs no download")
    data_dir: str = knob("data", Kind("a folder", str), "where the images lie, or are downloaded to")
    epochs: int = knob("200", whole(1), "how often every training image is seen")
    max_steps: int = knob("0", whole(0), "stop after so many steps; 0: after the last epoch")
    batch_size: int = knob(
        "", optional(BATCH), "images in a batch; unset: BATCH_SIZE_PER_GPU × ranks; auto: what fits"
    )
    batch_size_per_gpu: int = knob("128", whole(1), "the most images that a rank takes at once")
    optimizer: str = knob("sgd", choice("sgd", "adamw"), "sgd is with Nesterov's momentum")
    learning_rate: float = knob("auto", auto(ABOVE_0), "the highest; auto: by optimizer and batch size")
    momentum: float = knob("0.9", SHARE, "of sgd; the first beta of adamw")
    weight_decay: float = knob("auto", auto(FROM_0), "of weights, not of biases and norms")
    schedule: str = knob("cosine", choice("cosine", "step", "constant"), "of the learning rate")
    warmup_epochs: float = knob("auto", auto(FROM_0), "linear warm-up; auto: a tenth of EPOCHS, at most 5")
    label_smoothing: float = knob("0", SHARE, "share of each label that all classes get")
    gradient_clipping: float = knob("false", strength(ABOVE_0, 1.0), "the greatest norm of the gradient")
    ema: float = knob("false", strength(DECAY, 0.999), "test a running mean of the weights; its decay")
    augmentation: str = knob(
        "light", choice("none", "light", "heavy"), "light: crop, flip; heavy: and TrivialAugment, erase"
    )
    random_crop: bool = knob("auto", auto(FLAG), "the crop alone; auto: with any augmentation")
    mixup: float = knob("false", strength(ABOVE_0, 0.2), "mix pairs of images; alpha of the share's Beta")
    cutmix: float = knob("false", strength(ABOVE_0, 1.0), "paste a piece of another image; alpha of its area")
    seed: int = knob("0", whole(0, 2**63 - 1), "of weights, order and augmentation")
    distributed: bool = knob("auto", auto(FLAG), "train over all ranks; auto: when there are several")
    sync_bn: bool = knob("false", FLAG, "batch statistics over all ranks")
    mixed_precision: bool = knob("auto", auto(FLAG), "bfloat16; auto: where it is faster")
    compile: bool = knob("auto", auto(FLAG), "torch.compile; auto: on one GPU, for 10 epochs and more")
    deterministic: bool = knob("false", FLAG, "the same bits in each run, on a GPU too, where that is slower")
    checkpoint_interval: Interval = knob("1", INTERVAL, "epochs or steps that a kill may cost; off: all")  # noqa: RUF009 - it is a field()
    report_interval: int = knob("10", whole(1), "steps between reports")
    workers: int = knob(
        "auto", auto(whole(0, 256)), "processes that make batches; 0: the device does, and holds all"
    )
    tensorboard: bool = knob("auto", auto(FLAG), "write its files too; auto: where it is installed")
    ranks: int = 1
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)

    @classmethod
    def read(
        cls,
        environ: Mapping[str, str],
        *,
        ranks: int = 1,
        unit: str = "ranks",
        bf16: bool = False,
        compiles: bool = False,
        tensorboard: bool = False,
        workers: int = 0,
        kept_batch: int = 0,
        kept_compile: bool | None = None,
        fits: int = 0,
    ) -> Settings:
        """The configuration for `ranks` devices, called `unit`, with bfloat16 or not, for which compiling
        pays or not; raises SettingsError.

        `workers`: how many processes must make the batches, 0 where the device can; `kept_batch`,
        `kept_compile`: BATCH_SIZE and COMPILE of the run that is continued, which stay unless given; `fits`:
        how many images a rank can take at once, where that is known."""
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        problems = []
        for name, meta in knobs():
            text = environ.get(name.upper(), "").strip()
            sources[name] = "environment" if text else "default"
            try:
                values[name] = meta["kind"].parse(text or meta["default"])
            except ValueError:
                problems.append(refusal(name.upper(), text, meta["kind"]))
        if not problems:
            decide_batch(values, sources, ranks, unit, kept_batch, fits)
            complete(values, sources, ranks, bf16)
            decide_compiling(values, sources, ranks, compiles, kept_compile)
            decide(
                values, sources, "workers", workers, "the images do not fit" if workers else "the images fit"
            )
            found = "tensorboard is installed" if tensorboard else "tensorboard is not installed"
            decide(values, sources, "tensorboard", tensorboard, found)
            settings = cls(**values, ranks=ranks, sources=sources)
            problems = conflicts(settings, unit, tensorboard)
        if problems:
            raise SettingsError("\n".join(problems))
        return settings

    @property
    def wants_fit(self) -> bool:
        """Whether the batch is to be the largest that fits, and it is not known yet how many that are."""
        return self.sources["batch_size_per_gpu"] == TO_BE_FOUND

    @property
    def share(self) -> int:
        """The most images of a batch that one rank has."""
        return math.ceil(self.batch_size / self.ranks)

    @property
    def parts(self) -> int:
        """In how many parts a rank takes its share, adding up the gradients."""
        return math.ceil(self.share / self.batch_size_per_gpu)

    @property
    def part(self) -> int:
        """The most images that a rank takes at once."""
        return math.ceil(self.share / self.parts)

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """(name, value, where it came from) of every knob."""
        return ((name.upper(), shown(getattr(self, name)), self.sources[name]) for name, _ in knobs())

    def table(self) -> str:
        """Every knob with its value and where it came from, one on a line."""
        return "\n".join(f"  {name:<20} {value:<11} {source}" for name, value, source in self.rows())


def knobs() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(name, default and kind and about) of each knob, in order."""
    return ((f.name, f.metadata) for f in dataclasses.fields(Settings) if f.metadata)


def usage() -> str:
    lines = (
        f"  {n.upper():<20} {m['about']} [{m['default']}]\n{'':23}{m['kind'].expected}" for n, m in knobs()
    )
    return "usage: python train.py, with environment variables:\n" + "\n".join(lines)


def explain(arguments: list[str]) -> NoReturn:
    """Print the knobs and leave, with status 0 where they were asked for. Nobody need read to the end."""
    try:
        print(usage(), flush=True)
    except BrokenPipeError:  # again as Python ends, but for this
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0 if arguments in (["--help"], ["-h"]) else 2)


@contextlib.contextmanager
def refusals(first: bool) -> Iterator[None]:
    """Where this run cannot be, let the first rank say why, and leave with status 2, without a traceback."""
    try:
        yield
    except (SettingsError, DataError, RuntimeError) as error:
        # The Checkpointer wraps what a part objects to.
        wrong = error.__cause__ if isinstance(error, RuntimeError) else error
        if not isinstance(wrong, (SettingsError, DataError)):
            raise
        if first:
            print(error, file=sys.stderr)
        raise SystemExit(2) from error  # by which TrainForge knows that it need not try again


def strangers(environ: Mapping[str, str]) -> list[str]:
    """Variables that nobody reads, though each is almost a knob."""
    names = [name.upper() for name, _ in knobs()]
    close = {name: difflib.get_close_matches(name, names, 1, 0.9) for name in environ if name not in names}
    return [f"{name} is set, but is no knob; did you mean {near[0]}?" for name, near in close.items() if near]


def shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def refusal(name: str, text: str, kind: Kind) -> str:
    near = difflib.get_close_matches(text.lower(), kind.choices, 1)
    return f"{name}: expected {kind.expected}, found `{text:.40}`" + (
        f"; did you mean {near[0]}?" if near else ""
    )


def decide(values: dict[str, Any], sources: dict[str, str], name: str, value: object, why: str) -> None:
    """Give an open knob its value, in place, and say why."""
    if values[name] is None:
        values[name], sources[name] = value, f"auto: {why}"


def decide_batch(
    values: dict[str, Any], sources: dict[str, str], ranks: int, unit: str, kept_batch: int, fits: int
) -> None:
    """The batch, and how much of it a rank takes at once."""
    if values["batch_size"] == FIT:
        values["batch_size"], sources["batch_size_per_gpu"] = None, TO_BE_FOUND
        if fits:
            values["batch_size_per_gpu"], sources["batch_size_per_gpu"] = fits, "auto: the most that fit"
    elif fits and fits < values["batch_size_per_gpu"]:
        why = f"memory: {values['batch_size_per_gpu']} at once did not fit"
        values["batch_size_per_gpu"], sources["batch_size_per_gpu"] = fits, why
    per_gpu = values["batch_size_per_gpu"]
    if kept_batch and values["batch_size"] is None:
        values["batch_size"], sources["batch_size"] = kept_batch, "checkpoint"
    if (batch := values["batch_size"]) and ranks > 1:
        or_more = f" or {batch // ranks + 1}" if batch % ranks else ""
        sources["batch_size"] += f": {batch} over {ranks} {unit} is {batch // ranks}{or_more} each"
    decide(values, sources, "batch_size", per_gpu * ranks, f"{per_gpu} × {ranks}")


def complete(values: dict[str, Any], sources: dict[str, str], ranks: int, bf16: bool) -> None:
    """Decide what else is `auto`, in place, and say why."""
    open_knob = functools.partial(decide, values, sources)
    epochs, batch, sgd = values["epochs"], values["batch_size"], values["optimizer"] == "sgd"
    if sgd:
        open_knob("learning_rate", 0.1 * batch / 128, f"0.1 × {batch}/128")
    else:
        open_knob("learning_rate", 0.001 * math.sqrt(batch / 128), f"0.001 × √({batch}/128)")
    open_knob("weight_decay", 5e-4 if sgd else 0.05, f"for {values['optimizer']}")
    open_knob("warmup_epochs", min(5.0, epochs / 10), f"a tenth of {epochs} epochs, at most 5")
    augmented = values["augmentation"] != "none"
    open_knob("random_crop", augmented, f"augmentation is {values['augmentation']}")
    open_knob("distributed", ranks > 1, f"{ranks} rank{'s' * (ranks > 1)}")
    open_knob("mixed_precision", bf16, "bfloat16 is faster here" if bf16 else "bfloat16 is no faster here")


def decide_compiling(
    values: dict[str, Any], sources: dict[str, str], ranks: int, compiles: bool, kept: bool | None
) -> None:
    """Compiled passes round otherwise than plain ones: a run stays with what it began with."""
    epochs, may = values["epochs"], compiles and ranks == 1
    if values["compile"] is None and kept is not None and (may or not kept):
        values["compile"], sources["compile"] = kept, "checkpoint"
    why = (
        f"{epochs} epochs, {ranks} GPU{'s' * (ranks > 1)}"
        if compiles
        else "there is no GPU, or no compiler for it"
    )
    why += "; from here on, no more" * bool(kept)
    decide(values, sources, "compile", may and epochs >= EPOCHS_TO_COMPILE, why)


def conflicts(settings: Settings, unit: str, tensorboard: bool) -> list[str]:
    """What is wrong though each value is right by itself."""
    problems = []
    if settings.tensorboard and not tensorboard:
        problems.append(
            "TENSORBOARD: true, but it is not installed: pip install tensorboard, or leave it out"
        )
    if settings.ranks > 1 and not settings.distributed:
        problems.append(
            f"DISTRIBUTED: false, but {settings.ranks} {unit} were given; ask for one GPU, or say true"
        )
    if settings.batch_size < settings.ranks * settings.parts:
        problems.append(
            f"BATCH_SIZE: {settings.batch_size} over {settings.ranks} {unit} in parts of at most "
            f"{settings.batch_size_per_gpu} leaves one without an image; expected more, or fewer {unit}"
        )
    if settings.warmup_epochs > settings.epochs:
        problems.append(
            f"WARMUP_EPOCHS: expected at most EPOCHS ({settings.epochs}), found {settings.warmup_epochs:g}"
        )
    return problems
