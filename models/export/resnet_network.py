"""ResNet with bottlenecks as torch modules with torchvision's parameter names (He et al. 2016, arXiv 1512.03385)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

_EXPANSION = 4


class Bottleneck(nn.Module):
    """1 × 1, 3 × 3 with the stride, 1 × 1, beside a shortcut."""

    def __init__(self, inward: int, width: int, stride: int) -> None:
        super().__init__()
        outward = width * _EXPANSION
        self.conv1, self.bn1 = nn.Conv2d(inward, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outward, 1, bias=False), nn.BatchNorm2d(outward)
        self.downsample: nn.Module | None = None
        if stride != 1 or inward != outward:
            self.downsample = nn.Sequential(nn.Conv2d(inward, outward, 1, stride, bias=False), nn.BatchNorm2d(outward))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet(nn.Module):
    """Image (n, 3, h, w) to features (n, 32 × first, h / 32, w / 32); the classifier ``fc`` is loaded and not used."""

    def __init__(self, blocks: Sequence[int] = (3, 4, 6, 3), first: int = 64, classes: int = 1000) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, first, 7, 2, 3, bias=False), nn.BatchNorm2d(first)
        inward = first
        for number, count in enumerate(blocks):
            width = first << number
            stage = [
                Bottleneck(inward if n == 0 else width * _EXPANSION, width, 2 if number and not n else 1)
                for n in range(count)
            ]
            setattr(self, f"layer{number + 1}", nn.Sequential(*stage))
            inward = width * _EXPANSION
        self.fc = nn.Linear(inward, classes)
        self._stages = len(blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for number in range(self._stages):
            x = getattr(self, f"layer{number + 1}")(x)
        return x
