"""The networks: torchvision's ResNets with a stem for 32×32 images, and the small one of the first paper.

A model here knows nothing of ranks, precision or devices.
"""

from __future__ import annotations

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

STAGES: dict[str, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet34": (BasicBlock, [3, 4, 6, 3]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
    "resnet101": (Bottleneck, [3, 4, 23, 3]),
}
MODELS = (*STAGES, "resnet20")


def build(name: str, classes: int) -> nn.Module:
    """The network with fresh weights from torch's global generator: float images N×3×32×32 → N×classes."""
    if name == "resnet20":
        return resnet20(classes)
    block, layers = STAGES[name]
    model = ResNet(block, layers, num_classes=classes, zero_init_residual=True)
    # ImageNet's 7×7 stem and pooling would leave 8×8 of the 32×32 pixels: 15 points of accuracy on CIFAR-100.
    model.conv1 = first_convolution(64)
    model.maxpool = nn.Identity()
    return model


def first_convolution(channels: int) -> nn.Module:
    convolution = nn.Conv2d(3, channels, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution


def resnet20(classes: int) -> nn.Module:
    """The network for CIFAR of He et al., 2015, section 4.2: 0.27 M weights, a 14th of ResNet-18's work."""
    return nn.Sequential(
        first_convolution(16),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        *stage(16, 16, stride=1),
        *stage(16, 32, stride=2),
        *stage(32, 64, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, classes),
    )


def stage(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    """Three blocks, of which the first changes the size."""
    shortcut = None
    if stride != 1:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    return [
        BasicBlock(inputs, outputs, stride, shortcut),
        BasicBlock(outputs, outputs),
        BasicBlock(outputs, outputs),
    ]
