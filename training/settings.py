"""The knobs: one typed configuration, read from environment variables and checked whole.

`Settings.read` gives a complete configuration, in which nothing is left to be decided later, or every
problem at once. A name that is planned but not built is refused, never ignored.
To add a knob, add a field: its default is written the way a user would write it.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from data import DATASETS
from model import MODELS

NOT_YET = ("CUTMIX", "EMA", "MIXUP")
ON = ("true", "yes", "on", "1")
OFF = ("false", "no", "off", "0")


class SettingsError(Exception):
    """What is wrong with the environment, one line for each variable."""


class Interval(NamedTuple):
    """How often: every so many epochs, or steps; never when both are zero."""

    epochs: float = 0.0
    steps: int = 0

    def in_steps(self, steps_per_epoch: int) -> int:
        """The distance in steps, at least one; 0 for never."""
        return self.steps or math.ceil(self.epochs * steps_per_epoch)

    def __str__(self) -> str:
        return f"{self.steps} steps" if self.steps else f"{self.epochs:g}" if self.epochs else "off"


class Kind(NamedTuple):
    """How the text of a knob is read: `parse` raises ValueError for what is not `expected`."""

    expected: str
    parse: Callable[[str], Any]
    choices: tuple[str, ...] = ()


def choice(*names: str) -> Kind:
    def parse(text: str) -> str:
        return names[names.index(text.lower())]

    return Kind(f"one of {', '.join(names)}", parse, names)


def whole(least: int) -> Kind:
    def parse(text: str) -> int:
        if (value := int(text)) < least:
            raise ValueError
        return value

    return Kind(f"a whole number, {least} or more", parse)


def number(limits: str, fits: Callable[[float], bool]) -> Kind:
    def parse(text: str) -> float:
        value = float(text)
        if not (math.isfinite(value) and fits(value)):
            raise ValueError
        return value

    return Kind(f"a number {limits}", parse)


def auto(kind: Kind) -> Kind:
    """The same, or `auto`, which reads as None and is decided in `complete`."""

    def parse(text: str) -> Any:
        return None if text.lower() == "auto" else kind.parse(text)

    return Kind(f"auto, or {kind.expected}", parse, kind.choices)


def optional(kind: Kind) -> Kind:
    """The same, or nothing, which reads as None and is decided in `complete`."""
    return Kind(kind.expected, lambda text: kind.parse(text) if text else None, kind.choices)


ABOVE_0 = number("above 0", lambda value: value > 0)
FROM_0 = number("of 0 or more", lambda value: value >= 0)
SHARE = number("from 0 to below 1", lambda value: 0 <= value < 1)


def parse_flag(text: str) -> bool:
    if text.lower() not in ON + OFF:
        raise ValueError
    return text.lower() in ON


def parse_clipping(text: str) -> float:
    if text.lower() in ("true", "yes", "on"):
        return 1.0
    return 0.0 if text.lower() in OFF else ABOVE_0.parse(text)


def parse_interval(text: str) -> Interval:
    if text.lower() in OFF:
        return Interval()
    steps = re.fullmatch(r"([1-9]\d*) *steps?", text.lower())
    return Interval(steps=int(steps[1])) if steps else Interval(epochs=ABOVE_0.parse(text))


FLAG = Kind("true or false", parse_flag)
CLIPPING = Kind("a number above 0, true (1.0) or false", parse_clipping)
INTERVAL = Kind("epochs (1, 0.5), steps (`500 steps`) or off", parse_interval)


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
    batch_size: int = knob("", optional(whole(1)), "images in a batch; unset: BATCH_SIZE_PER_GPU × ranks")
    batch_size_per_gpu: int = knob("128", whole(1), "the most images that a rank takes at once")
    optimizer: str = knob("sgd", choice("sgd", "adamw"), "sgd is with Nesterov's momentum")
    learning_rate: float = knob("auto", auto(ABOVE_0), "the highest; auto: by optimizer and batch size")
    momentum: float = knob("0.9", SHARE, "of sgd; the first beta of adamw")
    weight_decay: float = knob("auto", auto(FROM_0), "of weights, not of biases and norms")
    schedule: str = knob("cosine", choice("cosine", "step", "constant"), "of the learning rate")
    warmup_epochs: float = knob("auto", auto(FROM_0), "linear warm-up; auto: a tenth of EPOCHS, at most 5")
    label_smoothing: float = knob("0", SHARE, "share of each label that all classes get")
    gradient_clipping: float = knob("false", CLIPPING, "the greatest norm of the gradient")
    augmentation: str = knob("light", choice("none", "light", "heavy"), "light: crop, flip; heavy: and erase")
    random_crop: bool = knob("auto", auto(FLAG), "the crop alone; auto: with any augmentation")
    seed: int = knob("0", whole(0), "of weights, order and augmentation")
    distributed: bool = knob("auto", auto(FLAG), "train over all ranks; auto: when there are several")
    sync_bn: bool = knob("false", FLAG, "batch statistics over all ranks")
    mixed_precision: bool = knob("auto", auto(FLAG), "bfloat16; auto: where the device has it")
    compile: bool = knob("false", FLAG, "torch.compile")
    checkpoint_interval: Interval = knob("1", INTERVAL, "epochs (0.5: twice in each) or `500 steps`; off")  # noqa: RUF009 - it is a field()
    report_interval: int = knob("10", whole(1), "steps between reports")
    ranks: int = 1
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)

    @classmethod
    def read(
        cls, environ: Mapping[str, str], *, ranks: int = 1, bf16: bool = False, kept_batch: int = 0
    ) -> Settings:
        """The configuration for `ranks` devices that have bfloat16 or not; raises SettingsError.

        `kept_batch` is the batch size of the run that is continued: it stays unless BATCH_SIZE is given."""
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        problems = [f"{name}: not yet supported; leave it out" for name in NOT_YET if wanted(environ, name)]
        for name, meta in knobs():
            text = environ.get(name.upper(), "").strip()
            sources[name] = "environment" if text else "default"
            try:
                values[name] = meta["kind"].parse(text or meta["default"])
            except ValueError:
                problems.append(refusal(name.upper(), text, meta["kind"]))
        if not problems:
            complete(values, sources, ranks, bf16, kept_batch)
            settings = cls(**values, ranks=ranks, sources=sources)
            problems = conflicts(settings)
        if problems:
            raise SettingsError("\n".join(problems))
        return settings

    @property
    def share(self) -> int:
        """The most images of a batch that one rank has."""
        return math.ceil(self.batch_size / self.ranks)

    @property
    def parts(self) -> int:
        """In how many parts a rank takes its share, adding up the gradients."""
        return math.ceil(self.share / self.batch_size_per_gpu)

    def table(self) -> str:
        """Every knob with its value and where it came from, one on a line."""
        return "\n".join(
            f"  {name.upper():<20} {shown(getattr(self, name)):<11} {self.sources[name]}"
            for name, _ in knobs()
        )


def knobs() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(name, default and kind and about) of each knob, in order."""
    return ((f.name, f.metadata) for f in dataclasses.fields(Settings) if f.metadata)


def usage() -> str:
    lines = (
        f"  {n.upper():<20} {m['about']} [{m['default']}]\n{'':23}{m['kind'].expected}" for n, m in knobs()
    )
    return "usage: python train.py, with environment variables:\n" + "\n".join(lines)


def shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def wanted(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").strip().lower() not in ("", *OFF)


def refusal(name: str, text: str, kind: Kind) -> str:
    if name == "BATCH_SIZE" and text.lower() == "auto":
        return f"{name}: `auto` is not yet supported; leave it out for BATCH_SIZE_PER_GPU × ranks"
    near = difflib.get_close_matches(text.lower(), kind.choices, 1)
    return f"{name}: expected {kind.expected}, found `{text}`" + (
        f"; did you mean {near[0]}?" if near else ""
    )


def complete(
    values: dict[str, Any], sources: dict[str, str], ranks: int, bf16: bool, kept_batch: int
) -> None:
    """Decide what is `auto`, in place, and say why."""

    def decide(name: str, value: object, why: str) -> None:
        if values[name] is None:
            values[name], sources[name] = value, f"auto: {why}"

    per_gpu, epochs, sgd = values["batch_size_per_gpu"], values["epochs"], values["optimizer"] == "sgd"
    if kept_batch and values["batch_size"] is None:
        values["batch_size"], sources["batch_size"] = kept_batch, "checkpoint"
    if values["batch_size"] and ranks > 1:
        sources["batch_size"] += (
            f": {values['batch_size']} over {ranks} ranks is {values['batch_size'] // ranks} each"
        )
    decide("batch_size", per_gpu * ranks, f"{per_gpu} × {ranks}")
    batch = values["batch_size"]
    if sgd:
        decide("learning_rate", 0.1 * batch / 128, f"0.1 × {batch}/128")
    else:
        decide("learning_rate", 0.001 * math.sqrt(batch / 128), f"0.001 × √({batch}/128)")
    decide("weight_decay", 5e-4 if sgd else 0.05, f"for {values['optimizer']}")
    decide("warmup_epochs", min(5.0, epochs / 10), f"a tenth of {epochs} epochs, at most 5")
    augmented = values["augmentation"] != "none"
    decide("random_crop", augmented, f"augmentation is {values['augmentation']}")
    decide("distributed", ranks > 1, f"{ranks} rank{'s' * (ranks > 1)}")
    decide("mixed_precision", bf16, f"the device has {'' if bf16 else 'no '}bfloat16")


def conflicts(settings: Settings) -> list[str]:
    """What is wrong though each value is right by itself."""
    problems = []
    if settings.ranks > 1 and not settings.distributed:
        problems.append(
            f"DISTRIBUTED: false, but {settings.ranks} ranks were started; ask for one GPU, or say true"
        )
    if settings.batch_size < settings.ranks * settings.parts:
        problems.append(
            f"BATCH_SIZE: {settings.batch_size} over {settings.ranks} ranks in parts of at most "
            f"{settings.batch_size_per_gpu} leaves a rank without an image; expected more, or fewer ranks"
        )
    if settings.warmup_epochs > settings.epochs:
        problems.append(
            f"WARMUP_EPOCHS: expected at most EPOCHS ({settings.epochs}), found {settings.warmup_epochs:g}"
        )
    return problems
