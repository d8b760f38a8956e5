"""CXAS: a U-Net on ResNet-50 with the released parameter names.

Source: cxas/models/UNet/{backbone_unet,backbones,unet_components}.py of ConstantinSeibold/ChestXRayAnatomySegmentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.inner import inner
from models.export.resnet_network import Bottleneck

_EXPANSION = 4


@dataclass(frozen=True, slots=True)
class CxasShape:
    """Sizes of the network; the defaults are the released ones.

    Attributes
    ----------
    blocks : tuple of int
        Blocks of each of the backbone's four stages.
    first : int
        Channels behind the backbone's first convolution.
    last : int
        Channels before the last convolution.
    classes : int
    """

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    first: int = 64
    last: int = 128
    classes: int = 159


class CxasUnet(nn.Module):
    """Image (n, 3, h, w) to logits (n, classes, h, w); one sigmoid a class."""

    def __init__(self, shape: CxasShape) -> None:
        super().__init__()
        deep = 32 * shape.first
        self.backbone = nn.ModuleDict({"backbone": _Backbone(shape.blocks, shape.first)})
        self.head = nn.ModuleDict(
            {
                "up1": _First(deep, deep // 4),
                "up2": _Up(deep // 2, deep // 8),
                "up3": _Up(deep // 4, deep // 32),
                "up4": _Up(deep // 16, shape.last),
                "out": nn.ModuleDict({"conv": nn.Conv2d(shape.last, shape.classes, 1)}),
            }
        )

    def forward(self, image: Tensor) -> Tensor:
        *skipped, x = inner(self, "backbone", "backbone")(image)
        for number, beside in enumerate(reversed(skipped), start=1):
            x = inner(self, "head", f"up{number}")(x, beside)
        return inner(self, "head", "out", "conv")(_resized(x, image))


class _Backbone(nn.Module):
    """The features behind the pooled stem and behind each stage; a stage halves the image, but the first."""

    def __init__(self, blocks: Sequence[int], first: int) -> None:
        super().__init__()
        self.layer0 = nn.Sequential(
            nn.Conv2d(3, first, 7, 2, 3, bias=False), nn.BatchNorm2d(first), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        inward = first
        for number, count in enumerate(blocks):
            width = first << number
            stage = [
                Bottleneck(width * _EXPANSION if n else inward, width, 2 if number and not n else 1)
                for n in range(count)
            ]
            setattr(self, f"layer{number + 1}", nn.Sequential(*stage))
            inward = width * _EXPANSION
        self._stages = len(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        made = [self.layer0(x)]
        for number in range(self._stages):
            made.append(getattr(self, f"layer{number + 1}")(made[-1]))
        return made


class _First(nn.Module):
    """Half the channels, then as :class:`_Up`."""

    def __init__(self, deep: int, outward: int) -> None:
        super().__init__()
        self.conv1 = nn.ModuleDict({"conv": nn.Sequential(*_convolved(deep, deep // 2))})
        self.conv2 = nn.ModuleDict({"double_conv": _twice(deep, outward)})

    def forward(self, x: Tensor, beside: Tensor) -> Tensor:
        x = _resized(self.conv1["conv"](x), beside)
        return inner(self, "conv2", "double_conv")(torch.cat([beside, x], 1))


class _Up(nn.Module):
    """Enlarged to what lies beside it, both together through two convolutions."""

    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.conv = nn.ModuleDict({"double_conv": _twice(inward, outward)})

    def forward(self, x: Tensor, beside: Tensor) -> Tensor:
        return inner(self, "conv", "double_conv")(torch.cat([beside, _resized(x, beside)], 1))


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


def _twice(inward: int, outward: int) -> nn.Sequential:
    return nn.Sequential(*_convolved(inward, inward // 2), *_convolved(inward // 2, outward))


def _convolved(inward: int, outward: int) -> list[nn.Module]:
    return [nn.Conv2d(inward, outward, 3, padding=1), nn.BatchNorm2d(outward), nn.ReLU()]
