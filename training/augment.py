"""Batches made where the images lie: order, crop, flip and erasing as operations on whole batches.

All chance of an epoch is drawn at its start from (seed, epoch): the order, and one row of numbers for
each place in it. A batch depends on nothing else, so it is the same whichever rank makes it, and after a
resume in the middle of an epoch.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data import SIZE, DataSet, Images

PAD = 4
SIDE = SIZE + 2 * PAD
DRAWS = 8  # numbers in a row: crop y, crop x, flip, erase: whether, area, ratio, centre y, centre x


class Recipe(NamedTuple):
    """What may happen to a training image."""

    crop: bool
    flip: bool
    erase: bool


class Normalise:
    """Pixels N×32×32×3 of bytes → N×3×32×32 floats in channels-last memory, of mean 0 and deviation 1."""

    def __init__(self, dataset: DataSet, device: torch.device) -> None:
        mean, deviation = dataset.statistics()
        self.mean, self.deviation = (255 * mean).to(device), (255 * deviation).to(device)

    def __call__(self, pixels: Tensor) -> Tensor:
        return pixels.float().sub_(self.mean).div_(self.deviation).permute(0, 3, 1, 2)


class Batches:
    """The training images on their device, in the order of one epoch after another."""

    def __init__(self, images: Images, normalise: Normalise, recipe: Recipe, seed: int) -> None:
        self.device = images.labels.device
        self.labels = images.labels
        self.pixels = torch.nn.functional.pad(images.pixels, (0, 0, PAD, PAD, PAD, PAD)).view(-1, 3)
        self.normalise, self.recipe, self.seed = normalise, recipe, seed
        self.across = torch.arange(SIZE, device=self.device)

    def __len__(self) -> int:
        return len(self.labels)

    def begin(self, epoch: int) -> None:
        """Draw this epoch's order and chances."""
        chance = np.random.default_rng((self.seed, epoch))
        order = torch.from_numpy(chance.permutation(len(self)))
        draws = torch.from_numpy(chance.random((len(self), DRAWS), dtype=np.float32))
        self.order, self.draws = order.to(self.device), draws.to(self.device)

    def take(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """(images, labels) at the places `start` … `stop` of the epoch."""
        index, draws = self.order[start:stop], self.draws[start:stop]
        images = self.normalise(self.crop_and_flip(index, draws))
        if self.recipe.erase:
            images.masked_fill_(erased(draws[:, 3:], self.across), 0.0)
        return images, self.labels[index]

    def crop_and_flip(self, index: Tensor, draws: Tensor) -> Tensor:
        """One gather picks the images, their window in the padded picture, and the side it is seen from."""
        if self.recipe.crop:
            corner = (draws[:, :2] * (2 * PAD + 1)).long().clamp_(max=2 * PAD)
        else:
            corner = torch.full_like(draws[:, :2], PAD, dtype=torch.long)
        rows, columns = corner[:, :1] + self.across, corner[:, 1:] + self.across
        if self.recipe.flip:
            columns = torch.where(draws[:, 2:3] < 0.5, columns.flip(1), columns)
        places = (index[:, None, None] * SIDE + rows[:, :, None]) * SIDE + columns[:, None, :]
        return self.pixels.index_select(0, places.flatten()).view(-1, SIZE, SIZE, 3)


def erased(draws: Tensor, across: Tensor) -> Tensor:
    """Where half of the images lose a rectangle, N×1×32×32: random erasing (Zhong et al., 2017), whose
    area is 2 … 33 % of the image and whose sides are up to 1:3.3."""
    whether, area, ratio, y, x = draws.unbind(1)
    area = (0.02 + 0.31 * area) * SIZE * SIZE
    ratio = torch.exp((2 * ratio - 1) * math.log(3.3))
    inside = [
        (across - SIZE * centre[:, None]).abs() <= side[:, None] / 2
        for centre, side in ((y, (area * ratio).sqrt()), (x, (area / ratio).sqrt()))
    ]
    return ((whether < 0.5)[:, None, None] & inside[0][:, :, None] & inside[1][:, None, :])[:, None]


def chunks(total: int, ranks: int, rank: int, parts: int) -> list[tuple[int, int]]:
    """The (start, stop) of the `parts` parts of `total` places that fall to this rank: all ranks together
    cover each place once, and two parts differ by one place at most."""
    edges = [total * n // (parts * ranks) for n in range(parts * ranks + 1)]
    return [(edges[part * ranks + rank], edges[part * ranks + rank + 1]) for part in range(parts)]
