"""The networks nnU-Net v2 trains, as torch modules with their released parameter names.

Plain and residual encoder U-Net (Isensee et al. 2021, doi 10.1038/s41592-020-01008-z; Isensee et al. 2024,
arXiv 2404.09556). The released files name each convolution twice (``conv`` and ``all_modules.0``) and the encoder twice
(``encoder`` and ``decoder.encoder``): so do these, so that every key of a file is checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

_CONVOLUTION: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_INSTANCE_NORM: dict[int, type[nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_MEAN_POOL: dict[int, type[nn.Module]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}

Size = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NnUNetShape:
    """Sizes of a network, as ``plans.json`` states them.

    Attributes
    ----------
    kind : str
        ``plain`` (PlainConvUNet) or ``residual`` (ResidualEncoderUNet).
    channels, classes : int
        Inputs and logits.
    features : tuple of int
        Channels of each stage.
    kernels, strides : tuple of tuple of int
        For each stage; two or three axes.
    encoder_blocks, decoder_blocks : tuple of int
        Convolutions (residual blocks in a residual encoder) of each stage; the decoder has one stage less.
    bias : bool
        Of the convolutions.
    epsilon : float
        Of the instance norm.
    decoder_kernels : tuple of tuple of int
        For each stage of the decoder, lowest first; empty where they are those of the stages beside, as in version 2.
    """

    kind: Literal["plain", "residual"]
    channels: int
    classes: int
    features: tuple[int, ...]
    kernels: tuple[Size, ...]
    strides: tuple[Size, ...]
    encoder_blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]
    bias: bool = True
    epsilon: float = 1e-5
    decoder_kernels: tuple[Size, ...] = ()

    @property
    def axes(self) -> int:
        """2 or 3."""
        return len(self.kernels[0])


class ConvNormAct(nn.Module):
    """Convolution, instance norm and, unless ``linear``, leaky ReLU."""

    def __init__(
        self, shape: NnUNetShape, wide: int, out: int, kernel: Size, stride: Size, *, bias: bool, linear: bool = False
    ) -> None:
        super().__init__()
        padding = tuple((k - 1) // 2 for k in kernel)
        self.conv = _CONVOLUTION[shape.axes](wide, out, kernel, stride, padding, bias=bias)
        self.norm = _INSTANCE_NORM[shape.axes](out, eps=shape.epsilon, affine=True)
        parts = [self.conv, self.norm]
        if not linear:
            self.nonlin = nn.LeakyReLU(0.01, inplace=False)
            parts.append(self.nonlin)
        self.all_modules = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.all_modules(x)


class ConvStack(nn.Module):
    """Convolutions in a row; the first one strides."""

    def __init__(self, shape: NnUNetShape, count: int, wide: int, out: int, kernel: Size, stride: Size) -> None:
        super().__init__()
        ones = (1,) * shape.axes
        self.convs = nn.Sequential(
            *(
                ConvNormAct(shape, out if n else wide, out, kernel, ones if n else stride, bias=shape.bias)
                for n in range(count)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x)


class ResidualBlock(nn.Module):
    """Two convolutions and a skip; where it strides or widens, the skip pools and projects (ResNet-D)."""

    def __init__(self, shape: NnUNetShape, wide: int, out: int, kernel: Size, stride: Size) -> None:
        super().__init__()
        ones = (1,) * shape.axes
        self.conv1 = ConvNormAct(shape, wide, out, kernel, stride, bias=shape.bias)
        self.conv2 = ConvNormAct(shape, out, out, kernel, ones, bias=shape.bias, linear=True)
        self.nonlin2 = nn.LeakyReLU(0.01, inplace=False)
        skip: list[nn.Module] = []
        if stride != ones:
            skip.append(_MEAN_POOL[shape.axes](stride, stride))
        if wide != out:
            skip.append(ConvNormAct(shape, wide, out, ones, ones, bias=False, linear=True))
        self.skip = nn.Sequential(*skip) if skip else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.nonlin2(self.conv2(self.conv1(x)) + self.skip(x))


class ResidualStack(nn.Module):
    """Residual blocks in a row; the first one strides."""

    def __init__(self, shape: NnUNetShape, count: int, wide: int, out: int, kernel: Size, stride: Size) -> None:
        super().__init__()
        ones = (1,) * shape.axes
        self.blocks = nn.Sequential(
            *(ResidualBlock(shape, out if n else wide, out, kernel, ones if n else stride) for n in range(count))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class Encoder(nn.Module):
    """Feature maps of every stage, finest first."""

    def __init__(self, shape: NnUNetShape) -> None:
        super().__init__()
        wide = shape.channels
        residual = shape.kind == "residual"
        if residual:
            self.stem = ConvStack(shape, 1, wide, shape.features[0], shape.kernels[0], (1,) * shape.axes)
            wide = shape.features[0]
        stages: list[nn.Module] = []
        rows = zip(shape.encoder_blocks, shape.features, shape.kernels, shape.strides, strict=True)
        for count, out, kernel, stride in rows:
            if residual:
                stages.append(ResidualStack(shape, count, wide, out, kernel, stride))
            else:
                stages.append(nn.Sequential(ConvStack(shape, count, wide, out, kernel, stride)))
            wide = out
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        if hasattr(self, "stem"):
            x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class Decoder(nn.Module):
    """Upwards again; logits of every stage while training, of the finest one otherwise."""

    def __init__(self, shape: NnUNetShape, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.deep_supervision = False
        stages, transposed, logits = [], [], []
        for s in range(1, len(shape.features)):
            below, out, stride = shape.features[-s], shape.features[-s - 1], shape.strides[-s]
            transposed.append(_TRANSPOSED[shape.axes](below, out, stride, stride, bias=shape.bias))
            kernel = shape.decoder_kernels[s - 1] if shape.decoder_kernels else shape.kernels[-s - 1]
            stages.append(ConvStack(shape, shape.decoder_blocks[s - 1], 2 * out, out, kernel, (1,) * shape.axes))
            logits.append(_CONVOLUTION[shape.axes](out, shape.classes, 1, 1, 0, bias=True))
        self.stages = nn.ModuleList(stages)
        self.transpconvs = nn.ModuleList(transposed)
        self.seg_layers = nn.ModuleList(logits)

    def forward(self, maps: Sequence[Tensor]) -> Tensor | list[Tensor]:
        x = maps[-1]
        made = []
        for s, stage in enumerate(self.stages):
            x = stage(torch.cat([self.transpconvs[s](x), maps[-s - 2]], 1))
            if self.deep_supervision:
                made.append(self.seg_layers[s](x))
        return made[::-1] if self.deep_supervision else self.seg_layers[-1](x)


class NnUNet(nn.Module):
    """Image (n, channels, …) to logits (n, classes, …); every axis a multiple of the product of its strides."""

    def __init__(self, shape: NnUNetShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = Encoder(shape)
        self.decoder = Decoder(shape, self.encoder)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        return self.decoder(self.encoder(image))
