"""MONAI's SegResNet as torch modules with its parameter names (Myronenko 2018, arXiv 1810.11654; without its autoencoder)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

_GROUPS = 8


@dataclass(frozen=True, slots=True)
class SegResNetShape:
    """Sizes; the defaults are those of the bundle ``brats_mri_segmentation``."""

    channels: int = 4
    outputs: int = 3
    first: int = 16
    down: tuple[int, ...] = (1, 2, 2, 4)
    up: tuple[int, ...] = (1, 1, 1)


class _Convolution(nn.Module):
    """A convolution under the name ``conv``."""

    def __init__(self, wide: int, out: int, kernel: int = 3, stride: int = 1, *, bias: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv3d(wide, out, kernel, stride, kernel // 2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class _Block(nn.Module):
    """Norm, ReLU, convolution, twice, beside a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(_GROUPS, width)
        self.norm2 = nn.GroupNorm(_GROUPS, width)
        self.conv1 = _Convolution(width, width)
        self.conv2 = _Convolution(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))


class _Double(nn.Module):
    """Twice the size, linear."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="trilinear", align_corners=False)


class SegResNet(nn.Module):
    """Image (n, channels, x, y, z) to logits (n, outputs, x, y, z); each side a multiple of 2 to the power of ``up``."""

    def __init__(self, shape: SegResNetShape) -> None:
        super().__init__()
        first = shape.first
        self.convInit = _Convolution(shape.channels, first)
        down = []
        for level, count in enumerate(shape.down):
            width = first * 2**level
            entry: nn.Module = _Convolution(width // 2, width, stride=2) if level else nn.Identity()
            down.append(nn.Sequential(entry, *(_Block(width) for _ in range(count))))
        self.down_layers = nn.ModuleList(down)
        up, samples = [], []
        for level, count in enumerate(shape.up):
            width = first * 2 ** (len(shape.up) - level)
            up.append(nn.Sequential(*(_Block(width // 2) for _ in range(count))))
            samples.append(nn.Sequential(_Convolution(width, width // 2, 1), _Double()))
        self.up_layers = nn.ModuleList(up)
        self.up_samples = nn.ModuleList(samples)
        self.conv_final = nn.Sequential(
            nn.GroupNorm(_GROUPS, first), nn.ReLU(), _Convolution(first, shape.outputs, 1, bias=True)
        )

    def forward(self, image: Tensor) -> Tensor:
        x = self.convInit(image)
        maps = []
        for down in self.down_layers:
            x = down(x)
            maps.append(x)
        for sample, up, other in zip(self.up_samples, self.up_layers, maps[-2::-1], strict=True):
            x = up(sample(x) + other)
        return self.conv_final(x)
