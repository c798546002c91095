"""Where batches come from: made on the device that holds all images, or by processes for one that cannot.

Both give the same batches, because both are `Batches`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from augment import Batches, Normalise, Picked, Recipe, Span, chunks
from data import DataError, DataSet, ensure, load
from ranks import Ranks
from settings import Settings

ROOM = 0.25  # of the device's free memory, that images may take
MOST_WORKERS = 8


class Order(NamedTuple):
    """A part of a batch to make: the places of the part, and of the batch."""

    part: Span
    batch: Span


def orders(settings: Settings, ranks: Ranks, images: int, first: int) -> list[Order]:
    """What this rank takes of the batches of an epoch from the place `first` on, part by part."""
    size = settings.batch_size
    parts = chunks(size, ranks.count, ranks.rank, settings.parts)
    batches = [(place, place + size) for place in range(first, images - size + 1, size)]
    return [Order((start + a, start + b), (start, stop)) for start, stop in batches for a, b in parts]


class Source:
    """The training images as batches. `workers`: processes that make them, 0 where the device does."""

    def __init__(self, settings: Settings, dataset: DataSet, ranks: Ranks) -> None:
        self.device, self.workers = ranks.device, settings.workers
        light, heavy = settings.augmentation != "none", settings.augmentation == "heavy"
        recipe = Recipe(
            crop=settings.random_crop, flip=light and dataset.mirrored, trivial=heavy, erase=heavy,
            mixup=settings.mixup, cutmix=settings.cutmix,
        )  # fmt: skip
        self.normalise = Normalise(dataset, self.device)
        images = dataset.train if self.workers else dataset.train.to(self.device)
        self.batches = Batches(images, recipe, settings.seed, dataset.classes)

    def __len__(self) -> int:
        return len(self.batches)

    def feed(self, epoch: int, orders: list[Order]) -> Generator[tuple[Tensor, Tensor]]:
        """(images, targets) of each order, in turn, on the device. Workers live until it is closed."""
        self.batches.begin(epoch)
        if not self.workers:
            for order in orders:
                yield self.batches.take(*order, self.normalise)
            return
        loader = DataLoader(
            _Workshop(self.batches), batch_size=None, sampler=orders, num_workers=self.workers,
            pin_memory=self.device.type == "cuda", worker_init_fn=_ignore_stops,
            multiprocessing_context="fork",
        )  # fmt: skip
        for order, picked in zip(orders, loader, strict=True):
            moved = Picked(*(tensor.to(self.device, non_blocking=True) for tensor in picked))
            yield self.batches.finish(moved, self.normalise, order.batch)


class _Workshop(Dataset[Picked]):  # type: ignore[misc]  # the check reads no torch
    """What a worker does with an order. The images themselves are shared with the process it forked from."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, order: Order) -> Picked:
        return self.batches.pick(*order)


def _ignore_stops(worker: int) -> None:
    """The rank decides when its workers leave: one that dies of the signal that asks the rank to save
    would take the rank with it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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
    return load(settings.dataset, settings.data_dir)


def workers_needed(dataset: DataSet, ranks: Ranks) -> int:
    """0 where the images fit on the device; else the cores of this rank, less the one it needs itself."""
    size = sum(split.pixels.numel() for split in (dataset.train, dataset.test))
    if not ranks.on_gpu or size < ROOM * torch.cuda.mem_get_info(ranks.device)[0]:
        return 0
    here = int(os.environ.get("LOCAL_WORLD_SIZE", ranks.count))
    cores = int(os.environ.get("TRAINFORGE_CPUS", len(os.sched_getaffinity(0))))
    return min(MOST_WORKERS, max(1, cores // here - 1))
