"""Batches: the same for any number of ranks, from any place on, and what a plain loop would make."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from augment import ERASE, PAD, Batches, Normalise, Recipe, chunks, draw_mix, erased
from data import DataSet, Images

pytestmark = pytest.mark.torch

CPU = torch.device("cpu")
PLAIN = Recipe()
ALL = Recipe(crop=True, flip=True, trivial=True, erase=True)
RECIPES = [PLAIN, ALL, Recipe(mixup=0.8), Recipe(crop=True, cutmix=1.0), ALL._replace(mixup=0.2, cutmix=1.0)]


def dataset(count: int = 48) -> DataSet:
    chance = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=chance)
    images = Images(pixels, torch.arange(count))
    return DataSet("made", count, images, images, mirrored=True)


NORMALISE = Normalise(dataset(), CPU)


def batches(recipe: Recipe = ALL, seed: int = 0, epoch: int = 0) -> Batches:
    made = Batches(dataset().train, recipe, seed, classes=48)
    made.begin(epoch)
    return made


def take(made: Batches, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A whole batch."""
    return made.take((start, stop), (start, stop), NORMALISE)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("parts", [1, 2])
def test_ranks_together_make_the_batch_that_one_makes(recipe: Recipe, ranks: int, parts: int) -> None:
    images, targets = take(batches(recipe), 16, 32)
    shares = {}
    for rank in range(ranks):
        apart = batches(recipe)
        for start, stop in chunks(16, ranks, rank, parts):
            shares[start] = apart.take((16 + start, 16 + stop), (16, 32), NORMALISE)
    together = [shares[start] for start in sorted(shares)]
    assert torch.equal(torch.cat([part[0] for part in together]), images)
    assert torch.equal(torch.cat([part[1] for part in together]), targets)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_place_looks_the_same_whatever_came_before(recipe: Recipe) -> None:
    walked, jumped = batches(recipe, epoch=3), batches(recipe, epoch=7)
    for start in range(0, 32, 8):
        take(walked, start, start + 8)
    jumped.begin(3)
    assert torch.equal(take(walked, 32, 40)[0], take(jumped, 32, 40)[0])


def test_an_epoch_has_every_image_once_in_an_order_of_its_own() -> None:
    orders = [tuple(take(batches(seed=s, epoch=e), 0, 48)[1].tolist()) for s, e in ((0, 0), (0, 1), (1, 0))]
    assert all(sorted(order) == list(range(48)) for order in orders)
    assert len(set(orders)) == 3


def test_crop_and_flip_are_those_of_a_plain_loop() -> None:
    made = batches(Recipe(crop=True, flip=True))
    images, labels = take(made, 0, 48)
    source = dataset().train.pixels.numpy()
    seen = set()
    for image, label, draws in zip(images, labels, made.draws.numpy(), strict=True):
        y, x = (int(draw * (2 * PAD + 1)) for draw in draws[:2])
        padded = np.zeros((40, 40, 3), np.uint8)
        padded[PAD:-PAD, PAD:-PAD] = source[label]
        window = padded[y : y + 32, x : x + 32]
        flipped = draws[2] < 0.5
        expected = torch.from_numpy((window[:, ::-1] if flipped else window).copy())
        assert torch.equal(image, NORMALISE(expected[None])[0])
        seen |= {("y", y), ("x", x), ("flipped", flipped)}
    assert {("flipped", True), ("flipped", False)} <= seen
    assert {value for axis, value in seen if axis == "y"} == set(range(9))


def test_without_augmentation_an_image_is_only_normalised() -> None:
    images, labels = take(batches(PLAIN), 0, 48)
    assert torch.equal(images, NORMALISE(dataset().train.pixels[labels]))
    assert images.mean().abs() < 1e-3
    assert (images.std() - 1).abs() < 1e-3


def test_images_come_in_channels_last_memory() -> None:
    assert take(batches(), 0, 8)[0].is_contiguous(memory_format=torch.channels_last)


def test_erasing_takes_half_of_the_images_and_a_limited_rectangle() -> None:
    draws = torch.rand(2000, ERASE.stop - ERASE.start, generator=torch.Generator().manual_seed(5))
    mask = erased(draws, torch.arange(32))
    area = mask.sum((1, 2, 3)) / 1024
    assert 0.45 < (area > 0).float().mean() < 0.55
    assert area.max() < 0.40
    some = mask[area > 0][0, 0]
    rows, columns = some.any(1), some.any(0)
    assert torch.equal(some, rows[:, None] & columns[None])


def test_mixed_images_are_blended_with_the_one_before_as_torchvision_does() -> None:
    plain, labels = take(batches(PLAIN), 0, 16)
    images, targets = take(batches(Recipe(mixup=0.8)), 0, 16)
    share = float(targets[0, labels[0]])
    assert 0 < share < 1
    torch.testing.assert_close(images, share * plain + (1 - share) * plain.roll(1, 0))
    mixing = v2.MixUp(alpha=0.8, num_classes=48)
    expected = mixing.transform(labels, {"labels": labels, "lam": share})
    torch.testing.assert_close(targets, expected)


def test_cut_images_carry_a_piece_of_the_one_before() -> None:
    plain, labels = take(batches(PLAIN), 16, 32)
    images, targets = take(batches(Recipe(cutmix=1.0)), 16, 32)
    pasted = (images != plain).any(1)
    assert torch.equal(torch.where(pasted[:, None], plain.roll(1, 0), plain), images)
    torch.testing.assert_close(targets[torch.arange(16), labels], 1 - pasted[0].float().mean().expand(16))
    torch.testing.assert_close(targets.sum(1), torch.ones(16))


def test_with_both_each_batch_meets_one_and_shares_follow_alpha() -> None:
    both = Recipe(mixup=0.2, cutmix=1.0)
    drawn = [draw_mix(both, np.random.default_rng((1, place))) for place in range(400)]
    cut = [mix for mix in drawn if mix.box is not None]
    assert 150 < len(cut) < 250
    assert 0.4 < np.mean([mix.share for mix in cut]) < 0.8  # uniform, but for boxes that reach outside
    blended = [mix.share for mix in drawn if mix.box is None]
    assert np.mean([0.1 < share < 0.9 for share in blended]) < 0.5  # Beta(0.2, 0.2) has its mass at the ends


@pytest.mark.parametrize(("total", "ranks", "parts"), [*itertools.product((7, 16, 359), (1, 2, 3), (1, 2))])
def test_parts_cover_each_place_once_and_evenly(total: int, ranks: int, parts: int) -> None:
    mine = [chunks(total, ranks, rank, parts) for rank in range(ranks)]
    edges = sorted(itertools.chain.from_iterable(mine))
    assert [place for start, stop in edges for place in range(start, stop)] == list(range(total))
    sizes = {stop - start for start, stop in edges}
    assert max(sizes) - min(sizes) <= 1
    assert {len(parts_of_one) for parts_of_one in mine} == {parts}
