"""TrivialAugment on a batch is torchvision's on one image after another."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import InterpolationMode, v2

import trivial

pytestmark = pytest.mark.torch

# Ours → torchvision's name, and the strength of a level from 0 to 1.
THEIRS = {
    "identity": "Identity", "shear_x": "ShearX", "shear_y": "ShearY", "translate_x": "TranslateX",
    "translate_y": "TranslateY", "rotate": "Rotate", "brightness": "Brightness", "colour": "Color",
    "contrast": "Contrast", "sharpness": "Sharpness", "posterize": "Posterize", "solarize": "Solarize",
    "autocontrast": "AutoContrast", "equalize": "Equalize",
}  # fmt: skip


def pictures(count: int) -> torch.Tensor:
    """Smooth colours with noise, bytes N×32×32×3; the first is of one colour."""
    chance = torch.Generator().manual_seed(3)
    coarse = torch.rand(count, 3, 4, 4, generator=chance) * 200 + 20
    fine = torch.nn.functional.interpolate(coarse, 32, mode="bicubic")
    noisy = fine + 20 * torch.rand(count, 3, 32, 32, generator=chance)
    noisy[0] = 77
    return noisy.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def theirs(name: str, bin_: int, positive: bool, planes: torch.Tensor) -> torch.Tensor:
    transform = v2.TrivialAugmentWide(interpolation=InterpolationMode.NEAREST)
    strengths, signed = transform._AUGMENTATION_SPACE[THEIRS[name]]
    values = strengths(trivial.BINS, 32, 32)
    strength = 0.0 if values is None else float(values[bin_])
    sign = -1 if signed and not positive else 1
    result: torch.Tensor = transform._apply_image_or_video_transform(
        planes, THEIRS[name], sign * strength, InterpolationMode.NEAREST, {}
    )
    return result


def ours(pixels: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    y, x = trivial.moved(draws, torch.arange(32))
    inside = (y >= 0) & (y < 32) & (x >= 0) & (x < 32)
    image = torch.arange(len(pixels))[:, None, None]
    moved = pixels[image, y.clamp(0, 31), x.clamp(0, 31)].masked_fill(~inside[..., None], 0)
    return trivial.recoloured(moved, draws)


@pytest.mark.parametrize("name", trivial.OPERATIONS)
def test_each_operation_is_torchvisions(name: str) -> None:
    cases = [(bin_, positive) for bin_ in (0, 1, 7, 16, 25, 30) for positive in (True, False)]
    operation = (trivial.OPERATIONS.index(name) + 0.5) / len(trivial.OPERATIONS)
    for bin_, positive in cases:
        pixels = pictures(4)
        draw = torch.tensor([operation, (bin_ + 0.5) / trivial.BINS, 0.9 if positive else 0.1])
        expected = theirs(name, bin_, positive, pixels.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        found = ours(pixels, draw.expand(4, 3))
        off = (found.int() - expected.int()).abs().amax(3)
        # Sums in another order round some pixels elsewhere: by one in value, or to the neighbouring pixel.
        assert (off > 1).float().mean() < 0.02, (bin_, positive)
        assert (off > 0).float().mean() < 0.15, (bin_, positive)


def test_each_image_of_a_batch_meets_its_own_operation() -> None:
    pixels = pictures(64)
    draws = torch.rand(64, trivial.DRAWS, generator=torch.Generator().manual_seed(1))
    together = ours(pixels, draws)
    apart = torch.cat([ours(pixels[n : n + 1], draws[n : n + 1]) for n in range(64)])
    assert torch.equal(together, apart)
    assert set(trivial.Drawn(draws).operation.tolist()) == set(range(len(trivial.OPERATIONS)))
