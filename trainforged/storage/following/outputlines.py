"""Where training stands, read from what a script prints: `step=300 loss=1.2`, or a bar of tqdm. Pure.

A line counts only if it names a step, an epoch or a loss; every other number is left alone. The work for a
line is bounded, whatever it holds.
"""

from __future__ import annotations

import math
import re

from trainforged.storage.recordlines import Report

LONGEST_LINE = 1000  # bytes; training lines are short
MOST_METRICS = 32  # of one line

_ESCAPE = re.compile(rb"\x1b(?:\[[0-?]{0,40}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|[@-Z\\-_])")
_BREAK = re.compile(rb"[\r\n]+")
_NUMBER = r"[-+]?(?:(?:\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})(?:[eE][-+]?\d{1,3})?|(?:nan|NaN|inf)\b)"
# loss=1.2, 'loss': 1.2, epoch=3/90, Epoch [3/90], step: 300 of 1000
_PAIR = re.compile(
    rf"""(?<![\w./-])(?P<name>[A-Za-z][\w./-]{{0,63}})(?P<quote>['"]?)(?P<sign>\s?[=:]\s{{0,8}}|\s{{1,8}}(?=\[?\d))"""
    rf"""\[?(?P<value>{_NUMBER})(?:(?:/|\sof\s)(?P<total>\d{{1,12}}))?(?!\.?\w|:\d)(?P<percent>\s?%)?"""
)
# 45%|████▌     | 450/1000 [00:10<00:12, 43.2it/s, loss=1.2]
_BAR = re.compile(
    r"\d{1,3}%\|[^|]{0,300}\|\s{0,8}(?P<done>\d{1,15})/(?P<total>\d{1,15})\s\[[\d:]{1,15}<[^\],]{1,20}"
    r"(?:,\s{0,8}[\d.?]{1,12}\s?(?P<unit>[^\],/]{0,20})/?(?P<per>[^\],]{0,20}))?(?P<rest>[^\]]{0,400})\]"
)

_STEP = frozenset({"step", "steps", "global_step", "iter", "iteration", "it", "train_step"})
_EPOCH = frozenset({"epoch", "epochs"})
_TELLING = ("loss", "acc", "lr", "learning_rate", "perplexity", "ppl", "f1", "auc", "error", "reward")


def segments(data: bytes) -> tuple[list[str], str]:
    """The lines in `data`, each as it was overwritten last, and the unfinished one behind them. What is too
    long is left out."""
    *whole, rest = _BREAK.split(data)
    return [_clean(line) for line in whole if len(line) <= LONGEST_LINE], (
        _clean(rest) if len(rest) <= LONGEST_LINE else ""
    )


def latest(data: bytes, time: float) -> Report | None:
    """The position after the newest lines of `data`, with what each name stood at last; None where no line
    tells of training. A line that is not yet finished counts if it is a whole bar."""
    lines, rest = segments(data)
    found = [report for line in lines if (report := read(line, time)) is not None]
    if rest and (bar := _bar(rest, time)) is not None:
        found.append(bar)
    if not found:
        return None
    position: dict[str, float] = {}
    metrics: dict[str, float] = {}
    for report in found:
        if report.epoch is not None and report.epoch != position.get("epoch"):
            position.pop("step", None)  # of the epoch before
        if report.step is not None:
            position.pop("steps", None)
        for name in ("step", "steps", "epoch", "epochs"):
            if (value := getattr(report, name)) is not None:
                position[name] = value
        metrics |= report.metrics
    return Report(time=time, metrics=metrics, **position)


def read(line: str, time: float) -> Report | None:
    """What one line says, without its end."""
    return _bar(line, time) or _pairs(line, time)


def _bar(line: str, time: float) -> Report | None:
    """The last bar in the line. Bars of bytes are downloads."""
    bar = next(iter(reversed(list(_BAR.finditer(line)))), None)
    if bar is None or (bar["unit"] or "").endswith("B"):
        return None
    before = _pairs(line[: bar.start()], time, anything=True) or Report(time=time)
    behind = _pairs(bar["rest"] or "", time, anything=True) or Report(time=time)
    epoch = before.epoch if before.epoch is not None else behind.epoch
    return Report(
        time=time,
        step=float(bar["done"]),
        steps=float(bar["total"]) if epoch is None else None,  # it counts within the epoch
        epoch=epoch,
        epochs=before.epochs if before.epochs is not None else behind.epochs,
        metrics=behind.metrics,
    )


def _pairs(line: str, time: float, anything: bool = False) -> Report | None:
    """Pairs of name and number; None where none of them is about training, unless `anything` goes."""
    position: dict[str, float] = {}
    metrics: dict[str, float] = {}
    telling = anything
    for pair in _PAIR.finditer(line):
        name, value = pair["name"], float(pair["value"])
        word = name.lower().rpartition("/")[2]
        kind = "step" if word in _STEP else "epoch" if word in _EPOCH else None
        if kind is not None and 0 <= value < math.inf:
            telling = True
            position[kind] = value
            if pair["total"]:
                position[f"{kind}s"] = float(pair["total"])
        elif "=" in pair["sign"] or pair["quote"] or (":" in pair["sign"] and _tells(word)):
            telling = telling or _tells(word)
            if len(metrics) < MOST_METRICS:
                metrics[name] = value
    if not telling or not (position or metrics):
        return None
    if "epoch" in position:
        position.pop("steps", None)  # they count within the epoch, most likely
    return Report(time=time, metrics=metrics, **position)


def _tells(word: str) -> bool:
    return any(word == telling or telling in re.split(r"[_.-]", word) for telling in _TELLING) or (
        word.endswith("loss") or "accuracy" in word
    )


def _clean(line: bytes) -> str:
    return _ESCAPE.sub(b"", line).decode(errors="replace")
