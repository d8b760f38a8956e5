"""MulModSeg as torch modules with the released parameter names (Li et al., WACV 2025, arXiv 2411.15576).

A backbone, and for each class a small network of its own, whose weights are made from the image's deepest features and the
class's words. Sources: ``model/MulModSeg.py`` as med-air/CMC holds it, ``model/Unet.py`` of ljwztc/CLIP-Driven-Universal-Model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.inner import inner
from models.export.swin_unetr_network import SwinUnetr, SwinUnetrShape

WORDS = 512
"""Channels of CLIP's words."""
_JOINT = 256
_HEAD = 8
_SIZES = (_HEAD * _HEAD, _HEAD * _HEAD, _HEAD, _HEAD, _HEAD, 1)
"""Of a class's three weights, then of their biases."""
_GROUPS = 16


@dataclass(frozen=True, slots=True)
class UnetShape:
    """Channels behind the first convolution; each of three halvings doubles them."""

    first: int = 32

    @property
    def deep(self) -> int:
        """Channels of the deepest features."""
        return 16 * self.first

    @property
    def outward(self) -> int:
        """Channels of the last features."""
        return 2 * self.first


@dataclass(frozen=True, slots=True)
class MulModSegShape:
    """Sizes of the network; the defaults are those of ``train.py``."""

    backbone: UnetShape | SwinUnetrShape = field(default_factory=UnetShape)
    classes: int = 14


class Backbone(Protocol):
    """Image to its deepest features and its last."""

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor]: ...


class _Convolved(nn.Module):
    """Convolution, normalisation by this very image's statistics, ReLU.

    The original normalises by the batch in use, too, so that running statistics are in the file and never read. With one
    window a batch that is what happens here.
    """

    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv3d(inward, outward, 3, padding=1), nn.BatchNorm3d(outward)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.instance_norm(self.conv1(x), weight=self.bn1.weight, bias=self.bn1.bias, eps=self.bn1.eps))


def _twice(inward: int, middle: int, outward: int) -> nn.Sequential:
    return nn.Sequential(_Convolved(inward, middle), _Convolved(middle, outward))


class Unet(nn.Module):
    """Image (1, 1, x, y, z) to features (1, 16 · first, x / 8, …) and (1, 2 · first, x, …)."""

    def __init__(self, shape: UnetShape) -> None:
        super().__init__()
        w = shape.first
        for name, inward, n in ((64, 1, 0), (128, 2 * w, 1), (256, 4 * w, 2), (512, 8 * w, 3)):
            setattr(self, f"down_tr{name}", nn.ModuleDict({"ops": _twice(inward, w << n, 2 * (w << n))}))
        for name, inward, outward in ((256, 16 * w, 8 * w), (128, 8 * w, 4 * w), (64, 4 * w, 2 * w)):
            up = nn.ConvTranspose3d(inward, inward, 2, 2)
            parts = {"up_conv": up, "ops": _twice(inward + outward, outward, outward)}
            setattr(self, f"up_tr{name}", nn.ModuleDict(parts))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x, beside = image, []
        for name in (64, 128, 256):
            beside.append(inner(self, f"down_tr{name}", "ops")(x))
            x = F.max_pool3d(beside[-1], 2)
        deep = inner(self, "down_tr512", "ops")(x)
        x = deep
        for name, each in zip((256, 128, 64), reversed(beside), strict=True):
            x = inner(self, f"up_tr{name}", "ops")(torch.cat([inner(self, f"up_tr{name}", "up_conv")(x), each], 1))
        return deep, x


class MulModSeg(nn.Module):
    """Image (1, 1, x, y, z) and the number of a modality (0: MR, 1: CT) to logits (1, classes, x, y, z)."""

    def __init__(self, shape: MulModSegShape) -> None:
        super().__init__()
        sizes = shape.backbone
        self.backbone = SwinUnetr(sizes) if isinstance(sizes, SwinUnetrShape) else Unet(sizes)
        self.precls_conv = nn.Sequential(
            nn.GroupNorm(_GROUPS, sizes.outward), nn.ReLU(), nn.Conv3d(sizes.outward, _HEAD, 1)
        )
        self.GAP = nn.Sequential(
            nn.GroupNorm(_GROUPS, sizes.deep), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Conv3d(sizes.deep, _JOINT, 1)
        )
        self.controller = nn.Conv3d(2 * _JOINT, sum(_SIZES), 1)
        self.organ_embedding: Tensor
        self.register_buffer("organ_embedding", torch.zeros(2, shape.classes, WORDS))
        self.text_to_vision = nn.Linear(WORDS, _JOINT)

    def forward(self, image: Tensor, modality: int) -> Tensor:
        deep, last = self.backbone(image)
        words = F.relu(self.text_to_vision(self.organ_embedding[modality]))
        seen = self.GAP(deep).flatten(1).expand(words.shape[0], -1)
        weights = self.controller(torch.cat([seen, words], 1)[:, :, None, None, None]).flatten(1)
        features = self.precls_conv(last).flatten(2)[0]
        # Class by class: all at once would hold eight values a voxel for each of them.
        logits = [_answered(features, each) for each in weights.unbind(0)]
        return torch.stack(logits).reshape(1, len(logits), *image.shape[2:])


def _answered(features: Tensor, weights: Tensor) -> Tensor:
    """One class's network on features (8, voxels): logits (voxels,)."""
    first, second, last, *shifts = weights.split(_SIZES)
    x = F.relu(first.reshape(_HEAD, _HEAD) @ features + shifts[0][:, None])
    x = F.relu(second.reshape(_HEAD, _HEAD) @ x + shifts[1][:, None])
    return last @ x + shifts[2]


class OfOneModality(nn.Module):
    """The network with the words of one modality."""

    def __init__(self, network: MulModSeg, modality: int) -> None:
        super().__init__()
        self.network, self._modality = network, modality

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image, self._modality)
