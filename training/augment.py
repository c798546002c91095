"""Batches made where the images lie: order, crop, flip, TrivialAugment, erasing and mixing, as operations on
whole batches.

All chance of an epoch is drawn at its start from (seed, epoch): the order, and one row of numbers for
each place in it. What is common to a batch is drawn from (seed, epoch, its first place). So a batch is the
same whichever rank makes it, in however many parts, and after a resume in the middle of an epoch.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import trivial
from data import SIZE, DataSet, Images

PAD = 4
# Numbers in a row: crop y, crop x, flip; erase: whether, area, ratio, centre y, centre x; TrivialAugment's.
ERASE, TRIVIAL = slice(3, 8), slice(8, 8 + trivial.DRAWS)
DRAWS = TRIVIAL.stop
Span = tuple[int, int]  # places from … up to


class Recipe(NamedTuple):
    """What may happen to a training image. `mixup`, `cutmix`: alpha, 0 for never; with both, each batch
    meets one of them."""

    crop: bool = False
    flip: bool = False
    trivial: bool = False
    erase: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0

    @property
    def mixes(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0


class Normalise:
    """Pixels N×32×32×3 of bytes → N×3×32×32 floats in channels-last memory, of mean 0 and deviation 1."""

    def __init__(self, dataset: DataSet, device: torch.device) -> None:
        mean, deviation = dataset.statistics()
        self.mean, self.deviation = (255 * mean).to(device), (255 * deviation).to(device)

    def __call__(self, pixels: Tensor) -> Tensor:
        return pixels.float().sub_(self.mean).div_(self.deviation).permute(0, 3, 1, 2)


class Picked(NamedTuple):
    """Images as bytes, N×32×32×3, with their labels and draws. Where images are mixed, the first is only the
    partner of the second: each is mixed with the one before it in the batch."""

    pixels: Tensor
    labels: Tensor
    draws: Tensor


class Batches:
    """The training images, in the order of one epoch after another."""

    def __init__(self, images: Images, recipe: Recipe, seed: int, classes: int) -> None:
        self.device = images.labels.device
        self.labels, self.pixels = images.labels, images.pixels.view(-1, 3)
        self.recipe, self.seed, self.classes = recipe, seed, classes
        self.across = torch.arange(SIZE, device=self.device)

    def __len__(self) -> int:
        return len(self.labels)

    def begin(self, epoch: int) -> None:
        """Draw this epoch's order and chances."""
        self.epoch = epoch
        chance = np.random.default_rng((self.seed, epoch))
        order = torch.from_numpy(chance.permutation(len(self)))
        draws = torch.from_numpy(chance.random((len(self), DRAWS), dtype=np.float32))
        self.order, self.draws = order.to(self.device), draws.to(self.device)

    def pick(self, part: Span, batch: Span) -> Picked:
        """The images at the places `part` of the epoch, which belong to the batch at `batch`."""
        start, stop = part
        index, draws = self.order[start:stop], self.draws[start:stop]
        if self.recipe.mixes:
            before = (start if start > batch[0] else batch[1]) - 1
            index = torch.cat([self.order[before : before + 1], index])
            draws = torch.cat([self.draws[before : before + 1], draws])
        pixels = self.look(index, draws)
        if self.recipe.trivial:
            pixels = trivial.recoloured(pixels, draws[:, TRIVIAL])
        return Picked(pixels, self.labels[index], draws)

    def look(self, index: Tensor, draws: Tensor) -> Tensor:
        """One gather picks the images, their window, the side they are seen from, and how they are bent."""
        y, x, inside = self.across[:, None], self.across[None, :], None
        if self.recipe.trivial:
            y, x = trivial.moved(draws[:, TRIVIAL], self.across)
            inside = within(y, x)
        if self.recipe.flip:
            x = torch.where(draws[:, 2, None, None] < 0.5, SIZE - 1 - x, x)
        if self.recipe.crop:
            corner = (draws[:, :2] * (2 * PAD + 1)).long().clamp_(max=2 * PAD) - PAD
            y, x = y + corner[:, 0, None, None], x + corner[:, 1, None, None]
            inside = within(y, x) if inside is None else within(y, x) & inside
        y, x = y.clamp(0, SIZE - 1), x.clamp(0, SIZE - 1)
        places = (index[:, None, None] * SIZE + y) * SIZE + x
        pixels = self.pixels.index_select(0, places.flatten()).view(-1, SIZE, SIZE, 3)
        return pixels if inside is None else pixels.masked_fill_(~inside[..., None], 0)

    def finish(self, picked: Picked, normalise: Normalise, batch: Span) -> tuple[Tensor, Tensor]:
        """(images, targets) of what was picked, on the device where it lies: labels, or where images are
        mixed each class's share, N×classes."""
        images, labels = normalise(picked.pixels), picked.labels
        if self.recipe.erase:
            across = torch.arange(SIZE, device=images.device)
            images.masked_fill_(erased(picked.draws[:, ERASE], across), 0.0)
        if not self.recipe.mixes:
            return images, labels
        mix = draw_mix(self.recipe, np.random.default_rng((self.seed, self.epoch, batch[0])))
        shares = torch.nn.functional.one_hot(labels, self.classes).float()
        return mix.images(images[1:], images[:-1]), torch.lerp(shares[:-1], shares[1:], mix.share)

    def take(self, part: Span, batch: Span, normalise: Normalise) -> tuple[Tensor, Tensor]:
        """Pick and finish."""
        return self.finish(self.pick(part, batch), normalise, batch)


def within(y: Tensor, x: Tensor) -> Tensor:
    """Where both coordinates are inside of the picture."""
    return (y >= 0) & (y < SIZE) & (x >= 0) & (x < SIZE)


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


class Mix(NamedTuple):
    """How the images of a batch are mixed with their partners. `share`: what is left of their own;
    `box`: what is pasted (rows, columns), None where all is blended."""

    share: float
    box: tuple[slice, slice] | None

    def images(self, own: Tensor, partner: Tensor) -> Tensor:
        if self.box is None:
            return torch.lerp(partner, own, self.share)
        mixed = own.clone()
        mixed[:, :, *self.box] = partner[:, :, *self.box]
        return mixed


def draw_mix(recipe: Recipe, chance: np.random.Generator) -> Mix:
    """MixUp (Zhang et al., 2018) or CutMix (Yun et al., 2019), as torchvision's transforms v2 do them."""
    cut = recipe.cutmix > 0 and (recipe.mixup == 0 or chance.random() < 0.5)
    alpha = recipe.cutmix if cut else recipe.mixup
    share = float(chance.beta(alpha, alpha))
    if not cut:
        return Mix(share, None)
    half = int(0.5 * math.sqrt(1 - share) * SIZE)
    y, x = (int(centre) for centre in chance.integers(SIZE, size=2))
    rows, columns = (slice(max(centre - half, 0), min(centre + half, SIZE)) for centre in (y, x))
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return Mix(1 - area / SIZE**2, (rows, columns))


def chunks(total: int, ranks: int, rank: int, parts: int) -> list[Span]:
    """The (start, stop) of the `parts` parts of `total` places that fall to this rank: all ranks together
    cover each place once, and two parts differ by one place at most."""
    edges = [total * n // (parts * ranks) for n in range(parts * ranks + 1)]
    return [(edges[part * ranks + rank], edges[part * ranks + rank + 1]) for part in range(parts)]
