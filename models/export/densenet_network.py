"""DenseNet-BC as torch modules with torchvision's parameter names (Huang et al. 2017, arXiv 1608.06993)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_BOTTLENECK = 4


@dataclass(frozen=True, slots=True)
class DenseNetShape:
    """Sizes of a DenseNet; the defaults are DenseNet121 on one channel, as torchxrayvision has it."""

    channels: int = 1
    classes: int = 18
    growth: int = 32
    blocks: tuple[int, ...] = (6, 12, 24, 16)
    first: int = 64


class DenseLayer(nn.Sequential):
    """Bottleneck and convolution; its output is appended to its input."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__(
            OrderedDict(
                norm1=nn.BatchNorm2d(width),
                relu1=nn.ReLU(),
                conv1=nn.Conv2d(width, _BOTTLENECK * growth, 1, bias=False),
                norm2=nn.BatchNorm2d(_BOTTLENECK * growth),
                relu2=nn.ReLU(),
                conv2=nn.Conv2d(_BOTTLENECK * growth, growth, 3, padding=1, bias=False),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, super().forward(x)], 1)


def _features(shape: DenseNetShape) -> tuple[nn.Sequential, int]:
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        conv0=nn.Conv2d(shape.channels, shape.first, 7, 2, 3, bias=False),
        norm0=nn.BatchNorm2d(shape.first),
        relu0=nn.ReLU(),
        pool0=nn.MaxPool2d(3, 2, 1),
    )
    width = shape.first
    for number, layers in enumerate(shape.blocks, start=1):
        block: OrderedDict[str, nn.Module] = OrderedDict(
            (f"denselayer{n + 1}", DenseLayer(width + n * shape.growth, shape.growth)) for n in range(layers)
        )
        parts[f"denseblock{number}"] = nn.Sequential(block)
        width += layers * shape.growth
        if number < len(shape.blocks):
            parts[f"transition{number}"] = nn.Sequential(
                OrderedDict(
                    norm=nn.BatchNorm2d(width),
                    relu=nn.ReLU(),
                    conv=nn.Conv2d(width, width // 2, 1, bias=False),
                    pool=nn.AvgPool2d(2, 2),
                )
            )
            width //= 2
    parts["norm5"] = nn.BatchNorm2d(width)
    return nn.Sequential(parts), width


class DenseNet(nn.Module):
    """Image (n, channels, size, size) to logits (n, classes)."""

    def __init__(self, shape: DenseNetShape) -> None:
        super().__init__()
        self.features, width = _features(shape)
        self.classifier = nn.Linear(width, shape.classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(F.relu(self.features(image)).mean((2, 3)))
