"""What is measured while training: scores, where the time goes, and TensorBoard's files.

Nothing here makes the host wait for the device until it is read.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ranks import Ranks


class Scores(NamedTuple):
    """Sums over images."""

    loss: float = 0.0
    top1: float = 0.0
    top5: float = 0.0
    images: float = 0.0
    norm: float = 0.0  # of gradients, summed over ranks and those steps it was taken in
    norms: float = 0.0  # how often that was

    def plus(self, other: Scores) -> Scores:
        return Scores(*(a + b for a, b in zip(self, other, strict=True)))

    def named(self, prefix: str = "") -> dict[str, float]:
        """Means over the images."""
        return {
            f"{prefix}loss": self.loss / self.images,
            f"{prefix}accuracy": self.top1 / self.images,
            f"{prefix}accuracy_top5": self.top5 / self.images,
        }


class Meter:
    """Scores that grow on the device, where adding to them makes nobody wait, until they are read."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.sums = torch.zeros(len(Scores._fields), dtype=torch.float64, device=ranks.device)
        self.one = torch.ones((), device=ranks.device)

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """One batch, with the mean loss over it. Of a mixed image the class with the larger share counts."""
        labels = targets if targets.ndim == 1 else targets.argmax(1)
        hits = logits.detach().topk(min(5, logits.shape[1])).indices == labels[:, None]
        count = torch.full_like(loss, len(labels))
        self.sums[:4] += torch.stack([loss.detach() * len(labels), hits[:, 0].sum(), hits.sum(), count])

    def add_norm(self, norm: Tensor) -> None:
        self.sums[4:] += torch.stack([norm.float(), self.one])

    def read(self) -> Scores:
        """The scores of all ranks since the last reading. Every rank calls it."""
        scores = Scores(*self.ranks.add_up(self.sums).tolist())
        self.sums.zero_()
        return scores


class Times(NamedTuple):
    """Where the time of some steps went, in seconds."""

    data: float = 0.0  # making batches, or waiting for them
    compute: float = 0.0  # forward, backward, optimizer
    communication: float = 0.0  # waiting for the other ranks' gradients

    def plus(self, other: Times) -> Times:
        return Times(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def efficiency(self) -> float:
        """The share that is left of the work when the waiting for others is taken away."""
        return 1 - self.communication / max(sum(self), 1e-9)


def summary(train: Scores, test: Scores, seconds: float, times: list[Times]) -> str:
    """An epoch in words; of several ranks with what each one's waiting for the others leaves of its time."""
    text = (
        f"loss {train.loss / train.images:.3f}, accuracy {train.top1 / train.images:.1%}, "
        f"on test images {test.top1 / test.images:.1%}; {train.images / seconds:.0f} images/s"
    )
    if len(times) > 1:
        text += f"; synchronisation efficiency {', '.join(f'{each.efficiency:.1%}' for each in times)}"
    return text


class Stopwatch:
    """What the time goes to, as the device sees it: what passed before a mark is of the kind it names."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.marks: list[tuple[str, Any]] = []

    def mark(self, kind: str = "") -> None:
        """`kind`: a field of Times; nothing for what is not counted."""
        self.marks.append((kind, self.now()))

    def now(self) -> Any:
        if not self.ranks.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def read(self) -> list[Times]:
        """Of each rank, since the last reading. Every rank calls it; the device has to be done."""
        sums = dict.fromkeys(Times._fields, 0.0)
        for (_, began), (kind, ended) in zip(self.marks, self.marks[1:], strict=False):
            if kind:
                sums[kind] += began.elapsed_time(ended) / 1000 if self.ranks.on_gpu else ended - began
        self.marks.clear()
        table = torch.zeros(self.ranks.count, len(sums), dtype=torch.float64, device=self.ranks.device)
        table[self.ranks.rank] = torch.tensor([*sums.values()], dtype=torch.float64)
        return [Times(*row) for row in self.ranks.add_up(table).tolist()]


class Window:
    """What was measured since the last report: `meter` and `watch` are fed, `read` empties them."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks, self.meter, self.watch = ranks, Meter(ranks), Stopwatch(ranks)
        self.steps, self.began = 0, time.monotonic()

    def restart(self) -> None:
        """What has passed since the last reading was no training."""
        self.watch.marks.clear()
        self.began = time.monotonic()

    def read(self) -> Measured:
        """All ranks come here together. This waits for the device."""
        scores, now = self.meter.read(), time.monotonic()
        measured = Measured(scores, now - self.began, self.watch.read(), self.ranks.rank)
        self.steps, self.began = 0, now
        return measured


class Measured(NamedTuple):
    scores: Scores
    seconds: float
    times: list[Times]  # of each rank
    rank: int  # this one

    def named(self) -> dict[str, float]:
        """As metrics. The shares of time are this rank's."""
        shares = {
            f"{kind}_share": time / self.seconds for kind, time in self.times[self.rank]._asdict().items()
        }
        metrics = {**self.scores.named(), "images_per_second": self.scores.images / self.seconds, **shares}
        if self.scores.norms:
            metrics["grad_norm"] = self.scores.norm / self.scores.norms
        if len(self.times) > 1:
            metrics["sync_efficiency"] = sum(each.efficiency for each in self.times) / len(self.times)
        if torch.cuda.is_available():
            metrics["gpu_memory"] = float(torch.cuda.max_memory_allocated())
        return metrics


def has_tensorboard() -> bool:
    return importlib.util.find_spec("tensorboard") is not None


class Board:
    """TensorBoard's files in the folder `tensorboard`, where they are wanted of this rank. A run that goes on
    takes back what was written beyond the step it goes on from. A disk
    that is full ends the files, not the run."""

    def __init__(self, step: int, wanted: bool) -> None:
        self.writer: Any = None
        if wanted:
            from torch.utils.tensorboard import SummaryWriter

            with self.disk():
                self.writer = SummaryWriter("tensorboard", purge_step=step + 1)

    def add(self, step: int, metrics: dict[str, float]) -> None:
        if self.writer:
            with self.disk():
                for name, value in metrics.items():
                    self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self.writer:
            with self.disk():
                self.writer.close()

    @contextlib.contextmanager
    def disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.writer = None
            print(f"TensorBoard's files end here: {error.strerror}", file=sys.stderr)
