"""Batches: the same for any number of ranks, from any place on, and what a plain loop would make."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from augment import DRAWS, PAD, Batches, Normalise, Recipe, chunks, erased
from data import DataSet, Images

pytestmark = pytest.mark.torch

CPU = torch.device("cpu")
ALL = Recipe(crop=True, flip=True, erase=True)


def dataset(count: int = 48) -> DataSet:
    chance = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=chance)
    images = Images(pixels, torch.arange(count))
    return DataSet("made", count, images, images, mirrored=True)


def batches(recipe: Recipe = ALL, seed: int = 0, epoch: int = 0) -> Batches:
    made = Batches(dataset().train, Normalise(dataset(), CPU), recipe, seed)
    made.begin(epoch)
    return made


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("parts", [1, 2])
def test_ranks_together_make_the_batch_that_one_makes(ranks: int, parts: int) -> None:
    images, labels = batches().take(16, 32)
    shares = {}
    for rank in range(ranks):
        apart = batches()
        for start, stop in chunks(16, ranks, rank, parts):
            shares[start] = apart.take(16 + start, 16 + stop)
    together = [shares[start] for start in sorted(shares)]
    assert torch.equal(torch.cat([part[0] for part in together]), images)
    assert torch.equal(torch.cat([part[1] for part in together]), labels)


def test_a_place_looks_the_same_whatever_came_before() -> None:
    walked, jumped = batches(epoch=3), batches(epoch=7)
    for start in range(0, 32, 8):
        walked.take(start, start + 8)
    jumped.begin(3)
    assert torch.equal(walked.take(32, 40)[0], jumped.take(32, 40)[0])


def test_an_epoch_has_every_image_once_in_an_order_of_its_own() -> None:
    orders = [tuple(batches(seed=s, epoch=e).take(0, 48)[1].tolist()) for s, e in ((0, 0), (0, 1), (1, 0))]
    assert all(sorted(order) == list(range(48)) for order in orders)
    assert len(set(orders)) == 3


def test_crop_and_flip_are_those_of_a_plain_loop() -> None:
    made = batches(Recipe(crop=True, flip=True, erase=False))
    images, labels = made.take(0, 48)
    source = dataset().train.pixels.numpy()
    seen = set()
    for image, label, draws in zip(images, labels, made.draws.numpy(), strict=True):
        y, x = (int(draw * (2 * PAD + 1)) for draw in draws[:2])
        padded = np.zeros((40, 40, 3), np.uint8)
        padded[PAD:-PAD, PAD:-PAD] = source[label]
        window = padded[y : y + 32, x : x + 32]
        flipped = draws[2] < 0.5
        expected = torch.from_numpy((window[:, ::-1] if flipped else window).copy())
        assert torch.equal(image, made.normalise(expected[None])[0])
        seen |= {("y", y), ("x", x), ("flipped", flipped)}
    assert {("flipped", True), ("flipped", False)} <= seen
    assert {value for axis, value in seen if axis == "y"} == set(range(9))


def test_without_augmentation_an_image_is_only_normalised() -> None:
    images, labels = batches(Recipe(crop=False, flip=False, erase=False)).take(0, 48)
    plain = dataset()
    assert torch.equal(images, Normalise(plain, CPU)(plain.train.pixels[labels]))
    assert images.mean().abs() < 1e-3
    assert (images.std() - 1).abs() < 1e-3


def test_images_come_in_channels_last_memory() -> None:
    assert batches().take(0, 8)[0].is_contiguous(memory_format=torch.channels_last)


def test_erasing_takes_half_of_the_images_and_a_limited_rectangle() -> None:
    draws = torch.rand(2000, DRAWS - 3, generator=torch.Generator().manual_seed(5))
    mask = erased(draws, torch.arange(32))
    area = mask.sum((1, 2, 3)) / 1024
    assert 0.45 < (area > 0).float().mean() < 0.55
    assert area.max() < 0.40
    some = mask[area > 0][0, 0]
    rows, columns = some.any(1), some.any(0)
    assert torch.equal(some, rows[:, None] & columns[None])


@pytest.mark.parametrize(("total", "ranks", "parts"), [*itertools.product((7, 16, 359), (1, 2, 3), (1, 2))])
def test_parts_cover_each_place_once_and_evenly(total: int, ranks: int, parts: int) -> None:
    mine = [chunks(total, ranks, rank, parts) for rank in range(ranks)]
    edges = sorted(itertools.chain.from_iterable(mine))
    assert [place for start, stop in edges for place in range(start, stop)] == list(range(total))
    sizes = {stop - start for start, stop in edges}
    assert max(sizes) - min(sizes) <= 1
    assert {len(parts_of_one) for parts_of_one in mine} == {parts}
