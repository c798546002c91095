"""TrivialAugment (Müller and Hutter, 2021) on whole batches: each image meets one of fourteen operations with
a strength of its own, as torchvision's `TrivialAugmentWide` does to one image after another.

Every operation is made for every image, and each takes the result of its own: nothing waits for the device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

DRAWS = 3  # numbers for an image: the operation, its strength, its sign
BINS = 31  # of strength
OPERATIONS = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "colour",
    "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip


class Drawn:
    """What the draws N×3 mean."""

    def __init__(self, draws: Tensor) -> None:
        self.operation = (draws[:, 0] * len(OPERATIONS)).long().clamp_(max=len(OPERATIONS) - 1)
        self.bin = (draws[:, 1] * BINS).floor().clamp_(max=BINS - 1)
        self.level = self.bin / (BINS - 1)
        self.signed = torch.where(draws[:, 2] <= 0.5, -self.level, self.level)

    def chosen(self, operation: str, dimensions: int) -> Tensor:
        """Whether the image meets this operation, to lie beside a tensor of so many dimensions."""
        return beside(self.operation == OPERATIONS.index(operation), dimensions)


def beside(values: Tensor, dimensions: int) -> Tensor:
    return values.view(-1, *[1] * (dimensions - 1))


def moved(draws: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
    """Where each pixel of the result comes from: rows and columns, N×32×32, some outside of the picture."""
    drawn, half = Drawn(draws), len(across) / 2
    y, x = (across + 0.5 - half)[None, :, None], (across + 0.5 - half)[None, None, :]
    signed = beside(drawn.signed, 3)
    shear, shift, angle = 0.99 * signed, (32 * signed).trunc(), math.radians(135) * signed

    def pick(values: dict[str, Tensor], usual: Tensor) -> Tensor:
        for operation, value in values.items():
            usual = torch.where(drawn.chosen(operation, 3), value, usual)
        return usual

    cosine, sine = angle.cos(), angle.sin()
    rows = {"shear_y": y + shear * (x + half), "translate_y": y - shift, "rotate": sine * x + cosine * y}
    columns = {"shear_x": x + shear * (y + half), "translate_x": x - shift, "rotate": cosine * x - sine * y}
    shape = (len(draws), len(across), len(across))
    found = (pick(rows, y.expand(shape)), pick(columns, x.expand(shape)))
    return (found[0] + (half - 0.5)).round().long(), (found[1] + (half - 0.5)).round().long()


def recoloured(pixels: Tensor, draws: Tensor) -> Tensor:
    """Bytes N×32×32×3 → the same, those whose operation is one of colour changed."""
    drawn, x = Drawn(draws), pixels.float()
    level, signed = beside(drawn.level, 4), beside(drawn.signed, 4)
    red, green, blue = x.unbind(3)
    grey = (0.2989 * red + 0.587 * green + 0.114 * blue).floor_()[..., None]
    bases = {
        "brightness": x.new_zeros(()), "colour": grey, "contrast": grey.mean((1, 2, 3), keepdim=True),
        "sharpness": smooth(x),
    }  # fmt: skip
    step = 2 ** beside((drawn.bin / 5).round(), 4)
    changes = {name: blend(x, base, 1 + 0.99 * signed) for name, base in bases.items()} | {
        "posterize": (x / step).floor_() * step,
        "solarize": torch.where(x >= 255 * (1 - level), 255 - x, x),
        "autocontrast": stretched(x),
        "equalize": equalized(pixels),
    }
    for operation, change in changes.items():
        x = torch.where(drawn.chosen(operation, 4), change, x)
    return x.to(torch.uint8)


def blend(x: Tensor, base: Tensor, share: Tensor) -> Tensor:
    return (x + (base - x) * (1 - share)).clamp_(0, 255)  # exact where both are the same


def smooth(x: Tensor) -> Tensor:
    """Each pixel as 5 parts of itself and one of each of the eight around it; the border as it is."""
    planes = x.permute(0, 3, 1, 2)
    around = torch.nn.functional.avg_pool2d(planes, 3, stride=1, divisor_override=1)
    blurred = ((around + 4 * planes[:, :, 1:-1, 1:-1]) / 13).round_()
    result = x.clone()
    result[:, 1:-1, 1:-1] = blurred.permute(0, 2, 3, 1)
    return result


def stretched(x: Tensor) -> Tensor:
    """Each channel over the whole range."""
    low, high = x.amin((1, 2), keepdim=True), x.amax((1, 2), keepdim=True)
    flat = low == high
    low, scale = low.masked_fill(flat, 0.0), ((high - low) / 255).masked_fill_(flat, 1.0)
    return ((x - low) / scale).clamp_(0, 255)


def equalized(pixels: Tensor) -> Tensor:
    """Each channel's values spread evenly, by Pillow's rule: floats."""
    values = pixels.flatten(1, 2).transpose(1, 2).long()  # N × 3 × 1024
    counts = torch.zeros(*values.shape[:2], 256, dtype=torch.int32, device=pixels.device)
    counts.scatter_add_(2, values, torch.ones_like(values, dtype=torch.int32))
    sums = counts.cumsum(2)
    highest = counts.gather(2, sums.argmax(2, keepdim=True))  # how often the greatest value occurs
    step = (values.shape[2] - highest) // 255
    table = ((sums - counts + step // 2) // step.clamp(min=1)).clamp_(0, 255)
    table[..., :1] = 0
    result = torch.where(step == 0, values, table.gather(2, values))
    return result.transpose(1, 2).view(pixels.shape).float()
