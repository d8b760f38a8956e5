"""Inception v3 as torch modules with torchvision's parameter names, without its auxiliary classifier.

Szegedy et al. 2016, arXiv 1512.00567; names as in torchvision/models/inception.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Kernel = int | tuple[int, int]

_FULL = 32
"""Channels of the first convolution at the released size; every other width keeps its ratio to it."""


class BasicConv2d(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, wide: int, out: int, kernel: Kernel, stride: int = 1, *, same: bool = True) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (sides[0] // 2, sides[1] // 2) if same else (0, 0)
        self.conv = nn.Conv2d(wide, out, sides, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


Step = tuple[str, int, Kernel] | tuple[str, int, Kernel, int]


class _Mixed(nn.Module):
    """Branches of convolutions side by side, their outputs stacked; ``pool`` comes last.

    ``branches`` gives each one's steps (name, width, kernel, stride); ``forks`` names the steps that each split the end of
    a branch in two.
    """

    def __init__(
        self, wide: int, branches: list[list[Step]], pool: int | None, forks: dict[str, list[Step]] | None = None
    ) -> None:
        super().__init__()
        self._branches = [[step[0] for step in branch] for branch in branches]
        self._forks = {name: [step[0] for step in steps] for name, steps in (forks or {}).items()}
        for branch in branches:
            inward = wide
            for step in branch:
                self._add(inward, step)
                inward = step[1]
            for step in (forks or {}).get(branch[-1][0], []):
                self._add(inward, step)
        if pool is not None:
            self.branch_pool = BasicConv2d(wide, pool, 1)

    def _add(self, inward: int, step: Step) -> None:
        stride = step[3] if len(step) == 4 else 1
        setattr(self, step[0], BasicConv2d(inward, step[1], step[2], stride, same=stride == 1))

    def forward(self, x: Tensor) -> Tensor:
        made = []
        for branch in self._branches:
            y = x
            for name in branch:
                y = getattr(self, name)(y)
            ends = self._forks.get(branch[-1])
            made += [getattr(self, name)(y) for name in ends] if ends else [y]
        if hasattr(self, "branch_pool"):
            made.append(self.branch_pool(F.avg_pool2d(x, 3, 1, 1)))
        else:
            made.append(F.max_pool2d(x, 3, 2))
        return torch.cat(made, 1)


_WIDE, _TALL = (1, 7), (7, 1)


class InceptionV3(nn.Module):
    """Image (n, 3, h, w) to features (n, 64 × first, ·, ·), before the pooling."""

    def __init__(self, first: int = _FULL) -> None:
        super().__init__()
        self._first = first
        w = self._width
        self.Conv2d_1a_3x3 = BasicConv2d(3, w(32), 3, 2, same=False)
        self.Conv2d_2a_3x3 = BasicConv2d(w(32), w(32), 3, same=False)
        self.Conv2d_2b_3x3 = BasicConv2d(w(32), w(64), 3)
        self.Conv2d_3b_1x1 = BasicConv2d(w(64), w(80), 1, same=False)
        self.Conv2d_4a_3x3 = BasicConv2d(w(80), w(192), 3, same=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = (self._a(*sizes) for sizes in ((192, 32), (256, 64), (288, 64)))
        self.Mixed_6a = _Mixed(
            w(288),
            [
                [("branch3x3", w(384), 3, 2)],
                [("branch3x3dbl_1", w(64), 1), ("branch3x3dbl_2", w(96), 3), ("branch3x3dbl_3", w(96), 3, 2)],
            ],
            None,
        )
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (self._c(n) for n in (128, 160, 160, 192))
        self.Mixed_7a = _Mixed(
            w(768),
            [
                [("branch3x3_1", w(192), 1), ("branch3x3_2", w(320), 3, 2)],
                [
                    ("branch7x7x3_1", w(192), 1),
                    ("branch7x7x3_2", w(192), _WIDE),
                    ("branch7x7x3_3", w(192), _TALL),
                    ("branch7x7x3_4", w(192), 3, 2),
                ],
            ],
            None,
        )
        self.Mixed_7b, self.Mixed_7c = self._e(1280), self._e(2048)

    def _width(self, full: int) -> int:
        return full * self._first // _FULL

    def _a(self, wide: int, pool: int) -> _Mixed:
        w = self._width
        return _Mixed(
            w(wide),
            [
                [("branch1x1", w(64), 1)],
                [("branch5x5_1", w(48), 1), ("branch5x5_2", w(64), 5)],
                [("branch3x3dbl_1", w(64), 1), ("branch3x3dbl_2", w(96), 3), ("branch3x3dbl_3", w(96), 3)],
            ],
            w(pool),
        )

    def _c(self, inner: int) -> _Mixed:
        w = self._width
        n, out = w(inner), w(192)
        return _Mixed(
            w(768),
            [
                [("branch1x1", out, 1)],
                [("branch7x7_1", n, 1), ("branch7x7_2", n, _WIDE), ("branch7x7_3", out, _TALL)],
                [
                    ("branch7x7dbl_1", n, 1),
                    ("branch7x7dbl_2", n, _TALL),
                    ("branch7x7dbl_3", n, _WIDE),
                    ("branch7x7dbl_4", n, _TALL),
                    ("branch7x7dbl_5", out, _WIDE),
                ],
            ],
            out,
        )

    def _e(self, wide: int) -> _Mixed:
        w = self._width
        out = w(384)
        return _Mixed(
            w(wide),
            [
                [("branch1x1", w(320), 1)],
                [("branch3x3_1", out, 1)],
                [("branch3x3dbl_1", w(448), 1), ("branch3x3dbl_2", out, 3)],
            ],
            w(192),
            {
                "branch3x3_1": [("branch3x3_2a", out, (1, 3)), ("branch3x3_2b", out, (3, 1))],
                "branch3x3dbl_2": [("branch3x3dbl_3a", out, (1, 3)), ("branch3x3dbl_3b", out, (3, 1))],
            },
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
