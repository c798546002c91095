"""Train a ResNet on CIFAR, on one device or many, and go on exactly where it was interrupted.

    python train.py                          one process: the GPU, or else the CPU
    torchrun --nproc-per-node 2 train.py     one process for each of two devices
    tfctl submit                             as a job that survives

Knobs are environment variables: `python train.py --help` names them. Everything is here or one file away:
what may be set (settings), the network (model), images (data), batches (augment), ranks and sums (utils).
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import trainforge
from augment import Batches, Normalise, Recipe, chunks
from data import DataError, DataSet, ensure, load
from model import build
from settings import Settings, SettingsError, usage
from utils import Meter, Progress, Ranks, Scores, learning_rate, make_optimizer

TEST_BATCH = 500  # images of a rank at a time


class Trainer:
    """One run. `settings` may be replaced between `resume` and `run`."""

    def __init__(self, settings: Settings, dataset: DataSet, ranks: Ranks) -> None:
        self.settings, self.ranks = settings, ranks
        torch.manual_seed(settings.seed)
        model = build(settings.model, dataset.classes).to(ranks.device, memory_format=torch.channels_last)
        if settings.sync_bn:
            model = ranks.synchronise_norms(model)
        if settings.compile:
            model.compile()
        # The same weights twice: the model is what is saved, the net what is trained.
        self.model, self.net = model, ranks.wrap(model)
        self.optimizer = make_optimizer(self.model, settings)

        light, heavy = settings.augmentation != "none", settings.augmentation == "heavy"
        recipe = Recipe(crop=settings.random_crop, flip=light and dataset.mirrored, erase=heavy)
        self.normalise = Normalise(dataset, ranks.device)
        self.batches = Batches(dataset.train.to(ranks.device), self.normalise, recipe, settings.seed)
        self.test = dataset.test.to(ranks.device)

        identity = f"{settings.model} with {settings.optimizer} on {dataset.name} ({dataset.fingerprint()})"
        self.progress = Progress(identity, len(self.batches), settings.batch_size)
        self.checkpointer = trainforge.Checkpointer(
            progress=self.progress, model=self.model, optimizer=self.optimizer
        )
        self.saved = (0, 0)  # the step and epoch of the last checkpoint
        self.stop_every = 10 if ranks.on_gpu else 1  # steps: on the CPU they are long
        self.window, self.window_steps, self.window_began = Meter(ranks), 0, 0.0

    def resume(self) -> int:
        """Go to the newest checkpoint, if there is one; returns the size of its batches, else 0."""
        self.ranks.settle(self.net, self.settings.share // self.settings.parts)
        chosen = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        if not self.checkpointer.resume():
            return 0
        for group, values in zip(self.optimizer.param_groups, chosen, strict=True):
            group.update(values)  # what the knobs say now, not what they said then
        self.saved = (self.progress.step, self.progress.epoch)
        return self.progress.batch_size

    def describe(self) -> str:
        """What will run, for the head of the log."""
        ranks, progress = self.ranks, self.progress
        size = sum(weight.numel() for weight in self.model.parameters())
        device = torch.cuda.get_device_name(ranks.device) if ranks.on_gpu else "CPU"
        return (
            f"{self.settings.table()}\n{progress.identity}\n"
            f"{size / 1e6:.2f} M weights, {len(self.batches)} training and {len(self.test)} test images, "
            f"{progress.steps_per_epoch} steps per epoch, {ranks.count} × {device}"
        )

    def run(self) -> None:
        """Train to the end, or until asked to stop; either way the last step is saved."""
        self.progress.batch_size = self.settings.batch_size
        while self.progress.epoch < self.settings.epochs and not self.out_of_steps:
            scores = self.evaluate() if self.train_epoch() else None
            if scores is None:
                self.ranks.say(f"asked to stop: saving step {self.progress.step}")
                break
            self.end_epoch(scores)
        self.save()
        self.checkpointer.close()

    def train_epoch(self) -> bool:
        """Train to the end of this epoch, or of the steps; False when asked to stop before."""
        self.batches.begin(self.progress.epoch)
        self.model.train()
        self.window_began = time.monotonic()
        while self.progress.steps_left and not self.out_of_steps:
            self.step()
            if self.progress.step % self.settings.report_interval == 0:
                self.publish()
            if self.progress.step % self.stop_every == 0 and trainforge.should_stop():
                return False
            if self.progress.steps_left and self.save_is_due:
                self.save()
        self.publish()
        return True

    def step(self) -> None:
        """One batch over all ranks. Each takes its share in parts, whose gradients add up to the mean."""
        settings, progress, ranks = self.settings, self.progress, self.ranks
        parts = chunks(settings.batch_size, ranks.count, ranks.rank, settings.parts)
        for number, (start, stop) in enumerate(parts, 1):
            images, labels = self.batches.take(progress.position + start, progress.position + stop)
            last = number == len(parts) or ranks.count == 1
            with contextlib.nullcontext() if last else self.net.no_sync():
                logits = self.forward(self.net, images)
                loss = cross_entropy(logits, labels, label_smoothing=settings.label_smoothing)
                # DDP averages over ranks, whose parts may differ by an image: weigh every image alike.
                (loss * ((stop - start) * ranks.count / settings.batch_size)).backward()
            self.window.add(loss, logits, labels)
        if settings.gradient_clipping:
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.gradient_clipping)
            self.window.add_norm(norm)
        progress.step += 1
        progress.position += settings.batch_size
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.window_steps += 1

    def forward(self, net: torch.nn.Module, images: Tensor) -> Tensor:
        with torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=self.settings.mixed_precision):
            logits: Tensor = net(images)
        return logits.float()

    def evaluate(self) -> Scores | None:
        """Scores on the test images, of which each rank takes a share. None when asked to stop meanwhile: a
        resumed run finds its epoch without steps left, and evaluates again."""
        ranks, meter = self.ranks, Meter(self.ranks)
        parts = math.ceil(len(self.test) / (TEST_BATCH * ranks.count))
        ranks.share_statistics(self.model)
        self.model.eval()
        with trainforge.phase("evaluate"), torch.inference_mode():
            for number, (start, stop) in enumerate(chunks(len(self.test), ranks.count, ranks.rank, parts), 1):
                labels = self.test.labels[start:stop]
                logits = self.forward(self.model, self.normalise(self.test.pixels[start:stop]))
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
        self.ranks.say(
            f"epoch {progress.epoch}/{self.settings.epochs}: loss {train.loss / train.images:.3f}, accuracy "
            f"{train.top1 / train.images:.1%}, on test images {test.top1 / test.images:.1%}; "
            f"{train.images / seconds:.0f} images/s"
        )
        if self.save_is_due:
            self.save(metric=test.top1 / test.images)

    def publish(self) -> None:
        """Read the scores since the last time, and report them. All ranks come here at the same step."""
        if not self.window_steps:
            return
        scores, now = self.window.read(), time.monotonic()
        if not math.isfinite(scores.loss):
            self.ranks.say(
                f"the loss is {scores.loss} at step {self.progress.step}: lower LEARNING_RATE (it is "
                f"{self.settings.learning_rate:g}), lengthen WARMUP_EPOCHS, or set GRADIENT_CLIPPING"
            )
            sys.exit(1)
        elapsed = now - self.window_began
        extra = {"lr": self.rate, "images_per_second": scores.images / elapsed}
        if self.settings.gradient_clipping:
            extra["grad_norm"] = scores.norm / (self.window_steps * self.ranks.count)
        if self.ranks.on_gpu:
            extra["gpu_memory"] = torch.cuda.max_memory_allocated()
        self.progress.scores = self.progress.scores.plus(scores)
        self.progress.seconds += elapsed
        self.window_steps, self.window_began = 0, now
        self.report(**scores.named(), **extra)

    def report(self, **metrics: float) -> None:
        settings, progress = self.settings, self.progress
        steps = progress.steps_at_end(settings.epochs)
        trainforge.report(
            step=progress.step,
            steps=min(steps, settings.max_steps or steps),
            epoch=progress.epoch,
            epochs=settings.epochs,
            **metrics,
        )

    def save(self, metric: float | None = None) -> None:
        """Save this step, unless it is. All ranks come here together. The best by `metric` is kept."""
        now = (self.progress.step, self.progress.epoch)
        if now != self.saved:
            self.publish()  # so that the epoch's scores are whole
            self.checkpointer.save(self.progress.step, metric=metric)
            self.saved, self.window_began = now, time.monotonic()

    @property
    def out_of_steps(self) -> bool:
        return 0 < self.settings.max_steps <= self.progress.step

    @property
    def save_is_due(self) -> bool:
        interval = self.settings.checkpoint_interval.in_steps(self.progress.steps_per_epoch)
        return interval > 0 and self.progress.step % interval == 0

    @property
    def rate(self) -> float:
        """The learning rate of the step that has come this far."""
        return learning_rate(self.settings, self.progress.epoch + self.progress.position / len(self.batches))


def fetch(settings: Settings, ranks: Ranks) -> DataSet:
    """The data set, which the first rank downloads while the others wait; raises DataError on all of them."""
    problem = ""
    if ranks.first:
        try:
            ensure(settings.dataset, settings.data_dir)
        except DataError as error:
            problem = str(error)
    if problem := ranks.from_first(problem):
        raise DataError(problem)
    dataset = load(settings.dataset, settings.data_dir)
    if len(dataset.train) < settings.batch_size:
        raise DataError(f"BATCH_SIZE: {settings.batch_size} is more than the {len(dataset.train)} images")
    return dataset


def main() -> None:
    if sys.argv[1:]:
        print(usage())
        sys.exit(0 if sys.argv[1:] == ["--help"] else 2)
    ranks = Ranks.from_environment(os.environ)
    read = partial(Settings.read, os.environ, ranks=ranks.count, bf16=ranks.has_bf16)
    try:
        settings = read()
        ranks.connect()
        trainer = Trainer(settings, fetch(settings, ranks), ranks)
        if batch_size := trainer.resume():
            trainer.settings = read(kept_batch=batch_size)
    except (SettingsError, DataError) as error:
        if ranks.first:
            print(error, file=sys.stderr)
        sys.exit(2)
    ranks.say(trainer.describe())
    trainer.run()
    ranks.leave()


if __name__ == "__main__":
    main()
