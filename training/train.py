"""Train a ResNet on CIFAR, on one device or many, and go on exactly where it was interrupted.

    python train.py                          one process: the GPU, or else the CPU
    torchrun --nproc-per-node 2 train.py     one process for each of two devices
    tfctl submit                             as a job that survives

Knobs are environment variables: `python train.py --help` names them. Everything is here or one file away:
what may be set (settings), the network (model), images (data), batches (augment, feeding), ranks, metrics.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import compiling
import fit
import trainforge
from augment import chunks
from data import DataError, DataSet
from feeding import Source, fetch, orders, workers_needed
from metrics import Board, Meter, Scores, Times, Window, has_tensorboard, summary
from model import build
from ranks import Ranks
from settings import Settings, explain, refusals, strangers
from utils import Progress, WeightAverage, divergence, keep_record, learning_rate, make_optimizer

TEST_BATCH = 500  # images of a rank at a time


class Trainer:
    """One run. `settings` may be replaced between `resume` and `run`."""

    def __init__(self, settings: Settings, model: torch.nn.Module, dataset: DataSet, ranks: Ranks) -> None:
        self.settings, self.ranks, self.window = settings, ranks, Window(ranks)
        if settings.sync_bn:
            model = ranks.synchronise_norms(model)
        self.average = WeightAverage(model, settings.ema) if settings.ema else None
        # The same weights twice: the model is what is saved, the net what is trained.
        self.model, self.net = model, ranks.wrap(model, computed=lambda: self.window.watch.mark("compute"))
        self.optimizer = make_optimizer(self.model, settings)
        self.source, self.test = Source(settings, dataset, ranks), dataset.test.to(ranks.device)

        identity = f"{settings.model} with {settings.optimizer} on {dataset.name} ({dataset.fingerprint()})"
        self.progress = Progress(identity, len(self.source), settings.batch_size)
        self.checkpointer = trainforge.Checkpointer(
            progress=self.progress, model=self.model, optimizer=self.optimizer, average=self.average
        )
        self.saved, self.interval = (0, 0), 0  # the place of the last checkpoint, steps that a kill may cost
        self.stop_every = 10 if ranks.on_gpu else 1  # steps: on the CPU they are long
        self.times = [Times()] * ranks.count  # of each rank, in this epoch
        self.board = Board(0, wanted=False)  # until `run` knows at which step it begins

    def resume(self) -> dict[str, Any]:
        """Go to the newest checkpoint, if there is one; returns what `Settings.read` is to keep of it."""
        self.ranks.settle(self.net, min(self.settings.part, len(self.source)))
        chosen = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        if not self.checkpointer.resume():
            return {}
        for group, values in zip(self.optimizer.param_groups, chosen, strict=True):
            group.update(values)  # what the knobs say now, not what they said then
        if self.average and not self.average.restored:
            self.average.restart()
        return {"kept_batch": self.progress.batch_size, "kept_compile": self.progress.compiled}

    def describe(self) -> str:
        """What will run, for the head of the log."""
        ranks, steps = self.ranks, len(self.source) // self.settings.batch_size
        size = sum(weight.numel() for weight in self.model.parameters())
        return (
            f"{self.settings.table()}\n{self.progress.identity}\n"
            f"{size / 1e6:.2f} M weights, {len(self.source)} training and {len(self.test)} test images, "
            f"{steps} steps per epoch, {ranks.count} × {ranks.device_name}\n"
            f"{self.progress.outlook(self.settings, self.checkpointer.directory)}"
        )

    def run(self) -> None:
        """Train to the end, or until asked to stop; either way the last step is saved."""
        self.progress.batch_size = self.settings.batch_size
        self.interval = self.settings.checkpoint_interval.in_steps(self.progress.steps_per_epoch)
        self.saved = self.progress.now
        self.board = Board(self.progress.step, self.settings.tensorboard and self.ranks.first)
        if self.ranks.first:
            keep_record(self.checkpointer.directory, self.settings, self.progress.identity)
        while not self.progress.is_over(self.settings):
            scores = self.evaluate() if self.train_epoch() else None
            if scores is None:
                self.ranks.say(f"asked to stop: saving step {self.progress.step}")
                break
            self.end_epoch(scores)
        self.save()
        self.board.close()
        if not self.checkpointer.close():
            sys.exit(f"step {self.progress.step} was not saved: what came after the last checkpoint is lost")

    def train_epoch(self) -> bool:
        """Train to the end of this epoch, or of the steps; False when asked to stop before."""
        self.model.train()
        self.times = [Times()] * self.ranks.count
        self.begin_feed()
        self.window.restart()
        try:
            while self.progress.steps_left and not self.progress.is_over(self.settings):
                self.step()
                if self.progress.step % self.settings.report_interval == 0:
                    self.publish()
                if self.progress.step % self.stop_every == 0 and trainforge.should_stop():
                    return False
                if self.progress.steps_left and self.save_is_due:
                    self.save()
        finally:
            self.feed.close()  # its workers would keep the process from ending
        self.publish()
        return True

    def begin_feed(self) -> None:
        """The batches that are left in this epoch."""
        places = orders(self.settings, self.ranks, len(self.source), self.progress.position)
        self.feed = self.source.feed(self.progress.epoch, places)

    def step(self) -> None:
        """One batch over all ranks."""
        settings, progress = self.settings, self.progress
        while (done := self.backward()) is None:
            self.take_less()
            compiling.settle(self)
            self.feed.close()
            self.begin_feed()
        for loss, logits, targets in done:
            self.window.meter.add(loss, logits, targets)
        progress.step += 1
        progress.position += settings.batch_size
        norm = self.update(self.rate, measured=progress.step % settings.report_interval == 0)
        if norm is not None:
            self.window.meter.add_norm(norm)
        if self.average:
            self.average.follow(progress.step)
        self.window.watch.mark("compute")
        self.window.steps += 1

    def backward(self) -> list[tuple[Tensor, Tensor, Tensor]] | None:
        """The gradients of a batch, of which each rank takes its share in parts that add up to the mean.
        Returns (loss, logits, targets) of each part; None where memory did not suffice."""
        settings, ranks, done = self.settings, self.ranks, []
        self.window.watch.mark()
        try:
            for number in range(1, settings.parts + 1):
                images, targets = next(self.feed)
                self.window.watch.mark("data")
                shared = number == settings.parts and ranks.count > 1
                with contextlib.nullcontext() if shared or ranks.count == 1 else self.net.no_sync():
                    done.append((*self.learn(images, targets), targets))
                self.window.watch.mark("communication" if shared else "compute")
        except torch.cuda.OutOfMemoryError:
            if not fit.can_halve(self.checkpointer.directory, settings, ranks):
                raise
            return None
        return done

    def learn(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Add the gradients of some images of a batch; returns loss and logits."""
        logits = self.forward(self.net, images)
        loss = cross_entropy(logits, targets, label_smoothing=self.settings.label_smoothing)
        # DDP averages over ranks, whose parts may differ by an image: weigh every image alike.
        (loss * (len(targets) * self.ranks.count / self.settings.batch_size)).backward()
        return loss.detach(), logits.detach()

    def update(self, rate: float, measured: bool = True) -> Tensor | None:
        """Move the weights by their gradient, whose length is returned where it is measured."""
        norm, limit = None, self.settings.gradient_clipping
        if limit or measured:
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit or math.inf)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return norm

    def take_less(self) -> None:
        """The device ran out of memory: take half as many images at once, in twice the parts."""
        self.settings = dataclasses.replace(self.settings, batch_size_per_gpu=(self.settings.part + 1) // 2)
        self.optimizer.zero_grad()
        torch.cuda.empty_cache()

    def forward(self, net: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        with torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=self.settings.mixed_precision):
            logits = net(images)
        return logits.float()

    def evaluate(self) -> Scores | None:
        """Scores on the test images, of which each rank takes a share. None when asked to stop meanwhile: a
        resumed run finds its epoch without steps left, and evaluates again."""
        ranks, meter = self.ranks, Meter(self.ranks)
        parts = math.ceil(len(self.test) / (TEST_BATCH * ranks.count))
        model = self.average.model if self.average else self.model
        ranks.share_statistics(model)
        model.eval()
        with trainforge.phase("evaluate"), torch.inference_mode():
            for number, (start, stop) in enumerate(chunks(len(self.test), ranks.count, ranks.rank, parts), 1):
                labels = self.test.labels[start:stop]
                logits = self.forward(model.forward, self.source.normalise(self.test.pixels[start:stop]))
                meter.add(cross_entropy(logits, labels), logits, labels)
                if number % self.stop_every == 0 and trainforge.should_stop():
                    return None
        return meter.read()

    def end_epoch(self, test: Scores) -> None:
        """Report the epoch, go on to the next one, and save if it is time."""
        progress, train, seconds = self.progress, self.progress.scores, self.progress.seconds
        if not progress.steps_left:  # else it was cut short by MAX_STEPS
            progress.next_epoch()
        self.report(**test.named("val_"), epoch_seconds=seconds)
        text = summary(train, test, seconds, self.times)
        self.ranks.say(f"epoch {progress.epoch}/{self.settings.epochs}: {text}")
        if self.save_is_due:
            self.save(metric=test.top1 / test.images)

    def publish(self) -> None:
        """Read the scores since the last time, and report them. All ranks come here at the same step."""
        if not self.window.steps:
            return
        measured = self.window.read()
        if problem := divergence(measured.scores.loss, self.progress.step, self.settings):
            self.ranks.say(problem)
            raise SystemExit(1) from FloatingPointError(problem)  # TrainForge tells it as the cause
        self.progress.scores = self.progress.scores.plus(measured.scores)
        self.progress.seconds += measured.seconds
        self.times = [sum_.plus(new) for sum_, new in zip(self.times, measured.times, strict=True)]
        self.report(lr=self.rate, **measured.named())

    def report(self, **metrics: float) -> None:
        trainforge.report(**self.progress.place(self.settings), **metrics)
        self.board.add(self.progress.step, metrics)

    def save(self, metric: float | None = None) -> None:
        """Save this step, unless it is. All ranks come here together. The best by `metric` is kept."""
        if self.progress.now != self.saved:
            self.publish()  # so that the epoch's scores are whole
            self.checkpointer.save(self.progress.step, metric=metric)
            if self.interval == 1:
                self.checkpointer.wait()
            self.saved = self.progress.now
            self.window.restart()

    @property
    def save_is_due(self) -> bool:
        """Twice in each interval, since saves take their time but do not overlap: so a kill at any moment, in
        the middle of one too, costs an interval at most."""
        (_, now), (_, last), interval = self.progress.now, self.saved, self.interval
        return interval > 0 and 2 * now // interval != 2 * last // interval

    @property
    def rate(self) -> float:
        """The learning rate of the step that has come this far."""
        return learning_rate(self.settings, self.progress.epoch + self.progress.position / len(self.source))


def prepare(ranks: Ranks) -> Trainer:
    """A run that stands where it goes on; raises SettingsError, DataError."""
    read = partial(Settings.read, os.environ, tensorboard=has_tensorboard(), **ranks.abilities)
    settings = read()
    ranks.connect(settings.deterministic)
    dataset = fetch(settings, ranks)
    torch.manual_seed(settings.seed)
    model = build(settings.model, dataset.classes).to(ranks.device, memory_format=torch.channels_last)
    fits = fit.known_or_found(model, settings, ranks, len(dataset.train))
    read = partial(read, workers=workers_needed(dataset, ranks), fits=fits)
    trainer = Trainer(read(), model, dataset, ranks)
    trainer.settings = read(**trainer.resume())
    if len(dataset.train) < (size := trainer.settings.batch_size):
        raise DataError(f"BATCH_SIZE: {size} is more than the {len(dataset.train)} images")
    compiling.settle(trainer)
    return trainer


def main() -> None:
    if sys.argv[1:]:
        explain(sys.argv[1:])
    ranks = Ranks.from_environment(os.environ)
    with refusals(ranks.first):
        trainer = prepare(ranks)
        ranks.say("\n".join([trainer.describe(), *strangers(os.environ)]))
        trainer.run()
    ranks.leave()


if __name__ == "__main__":
    main()
