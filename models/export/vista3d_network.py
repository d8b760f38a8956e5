"""VISTA3D's class branch as torch modules with MONAI's parameter names (He et al. 2024, arXiv 2406.05285).

The branch for clicks (``point_head``, ``image_encoder.up_layers``) is not here: a class prompt needs none of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

UNUSED = ("point_head.", "image_encoder.up_layers.")
"""Beginnings of the keys of the branch for clicks."""


@dataclass(frozen=True, slots=True)
class Vista3dShape:
    """Sizes; the defaults are those of ``vista3d132``."""

    width: int = 48
    down: tuple[int, ...] = (1, 2, 2, 4, 4)
    classes: int = 512


def _level(**parts: nn.Module) -> nn.ModuleDict:
    return nn.ModuleDict(parts)


class _Block(nn.Module):
    """Norm, ReLU, convolution, twice, beside a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.InstanceNorm3d(width, affine=True) for _ in range(2))
        self.conv1, self.conv2 = (nn.Conv3d(width, width, 3, 1, 1, bias=False) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))


class _Encoder(nn.Module):
    def __init__(self, shape: Vista3dShape) -> None:
        super().__init__()
        self.conv_init = nn.Conv3d(1, shape.width, 3, 1, 1, bias=False)
        self.layers = nn.ModuleList()
        for level, count in enumerate(shape.down):
            width = shape.width * 2**level
            last = level == len(shape.down) - 1
            downsample = nn.Identity() if last else nn.Conv3d(width, 2 * width, 3, 2, 1, bias=False)
            blocks = nn.Sequential(*(_Block(width) for _ in range(count)))
            self.layers.append(_level(blocks=blocks, downsample=downsample))

    def forward(self, x: Tensor) -> list[Tensor]:
        x, made = self.conv_init(x), []
        for level in self.layers:
            x = level.get_submodule("blocks")(x)
            made.append(x)
            x = level.get_submodule("downsample")(x)
        return made


class _Upsample(nn.Module):
    def __init__(self, wide: int, out: int) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose3d(wide, out, 3, 2, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.deconv(x)


class _ImageEncoder(nn.Module):
    def __init__(self, shape: Vista3dShape) -> None:
        super().__init__()
        self.encoder = _Encoder(shape)
        self.up_layers_auto = nn.ModuleList()
        for level in range(len(shape.down) - 2, -1, -1):
            width = shape.width * 2**level
            head = nn.Identity() if level else nn.Conv3d(width, shape.width, 1)
            blocks = nn.Sequential(_Block(width))
            self.up_layers_auto.append(_level(upsample=_Upsample(2 * width, width), blocks=blocks, head=head))

    def forward(self, image: Tensor) -> Tensor:
        maps = self.encoder(image)
        x = maps[-1]
        for level, other in zip(self.up_layers_auto, maps[-2::-1], strict=True):
            x = level.get_submodule("blocks")(level.get_submodule("upsample")(x) + other)
            x = level.get_submodule("head")(x)
        return x


class _Convolution(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(width, width, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class _ResidualLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _Convolution(width), _Convolution(width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(F.instance_norm(self.conv1(x)), 0.01)
        return F.leaky_relu(F.instance_norm(self.conv2(y)) + x, 0.01)


class _PostMapping(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = _ResidualLayer(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class _ClassHead(nn.Module):
    def __init__(self, shape: Vista3dShape) -> None:
        super().__init__()
        width = shape.width
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.InstanceNorm1d(1), nn.GELU(), nn.Linear(width, width))
        self.class_embeddings = nn.Embedding(shape.classes, width)
        self.image_post_mapping = nn.Sequential(_PostMapping(width), _PostMapping(width))

    def vectors(self, classes: Tensor) -> Tensor:
        """(classes, width) of class ids (classes,)."""
        return self.mlp(self.class_embeddings(classes)[:, None])[:, 0]


class Vista3d(nn.Module):
    """The class branch, under the released names."""

    def __init__(self, shape: Vista3dShape) -> None:
        super().__init__()
        self.image_encoder = _ImageEncoder(shape)
        self.class_head = _ClassHead(shape)


class Vista3dClasses(nn.Module):
    """Image (1, 1, x, y, z) in 0 … 1 to logits (1, 1 + classes, x, y, z) of the classes baked in; the first is always zero.

    Where no class is above zero, the first one wins: background, as MONAI's post-processing has it. Each side a multiple of
    2 to the power of the number of levels less one.
    """

    vectors: Tensor

    def __init__(self, network: Vista3d, classes: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        with torch.no_grad():
            self.register_buffer("vectors", network.class_head.vectors(torch.tensor(classes)))

    def forward(self, image: Tensor) -> Tensor:
        features = self.network.class_head.image_post_mapping(self.network.image_encoder(image))
        logits = F.conv3d(features, self.vectors[:, :, None, None, None])
        return torch.cat([torch.zeros_like(logits[:, :1]), logits], 1)
