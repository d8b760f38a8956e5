"""JF Healthcare's CheXpert classifier as torch modules with the released parameter names (Ye et al. 2020, arXiv 2005.14480).

A DenseNet121 whose features pass feature pyramid attention (Li et al. 2018, arXiv 1805.10180), mean and largest value of
each channel, and one small classifier a condition. As the original has it, the attention is applied anew before each
classifier: the fifth condition sees it five times.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.densenet_network import DenseNet, DenseNetShape

IMAGENET = 1000


@dataclass(frozen=True, slots=True)
class JfShape:
    """Sizes: growth, blocks and first channels of the DenseNet, conditions."""

    growth: int = 32
    blocks: tuple[int, ...] = (6, 12, 24, 16)
    first: int = 64
    conditions: int = 5


class _Normed(nn.Module):
    """Convolution that keeps or halves the size, normalised, ReLU."""

    def __init__(self, inward: int, outward: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        convolution = nn.Conv2d(inward, outward, kernel, stride, kernel // 2)
        self.conv = nn.Sequential(convolution, nn.BatchNorm2d(outward), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class PyramidAttention(nn.Module):
    """One map from three coarser scales weighs the features; their mean over the image is added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gap_branch = nn.Sequential(nn.AdaptiveAvgPool2d(1), _Normed(width, width, 1))
        self.mid_branch = _Normed(width, width, 1)
        self.downsample1, self.downsample2, self.downsample3 = (
            _Normed(width, 1, 7, 2),
            _Normed(1, 1, 5, 2),
            _Normed(1, 1, 3, 2),
        )
        self.scale1, self.scale2, self.scale3 = _Normed(1, 1, 7), _Normed(1, 1, 5), _Normed(1, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = int(x.shape[2]), int(x.shape[3])
        half = self.downsample1(x)
        quarter = self.downsample2(half)
        coarse = self.scale3(self.downsample3(quarter))
        coarse = self.scale2(quarter) + _to(coarse, rows // 4, columns // 4)
        coarse = self.scale1(half) + _to(coarse, rows // 2, columns // 2)
        # One pixel enlarged bilinearly is the same everywhere.
        return _to(coarse, rows, columns) * self.mid_branch(x) + self.gap_branch(x)


def _to(x: Tensor, rows: int, columns: int) -> Tensor:
    return F.interpolate(x, (rows, columns), mode="bilinear", align_corners=False)


class JfClassifier(nn.Module):
    """Image (n, 3, size, size) to logits (n, conditions); attentions of other kinds are loaded and not used."""

    def __init__(self, shape: JfShape) -> None:
        super().__init__()
        self.shape = shape
        self.backbone = DenseNet(DenseNetShape(3, IMAGENET, shape.growth, shape.blocks, shape.first))
        width = self.backbone.classifier.in_features
        for number in range(shape.conditions):
            setattr(self, f"fc_{number}", nn.Conv2d(2 * width, 1, 1))
            setattr(self, f"bn_{number}", nn.BatchNorm2d(2 * width))
        channel = {"fc1": nn.Linear(width, width // 2), "fc2": nn.Linear(width // 2, width)}
        self.attention_map = nn.ModuleDict(
            {
                "channel_attention": nn.ModuleDict(channel),
                "spatial_attention": _SpatialAttention(width),
                "pyramid_attention": PyramidAttention(width),
            }
        )

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.backbone.features(image))
        logits = []
        for number in range(self.shape.conditions):
            x = self.attention_map["pyramid_attention"](x)
            pooled = torch.cat([x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)], 1)
            logits.append(getattr(self, f"fc_{number}")(getattr(self, f"bn_{number}")(pooled)).flatten(1))
        return torch.cat(logits, 1)


class _SpatialAttention(nn.Module):
    """Its parameters are in the file; the configuration does not use it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, width // 8, 1), nn.Conv2d(width, width // 8, 1)
        self.conv3 = nn.Conv2d(width, width, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
