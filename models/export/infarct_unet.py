"""The infarct network's shape: a U-Net with in-plane kernels at full resolution and cubes below, that corrects a mask.

Like nnU-Net's for anisotropic images (Isensee et al. 2021, doi 10.1038/s41592-020-01008-z), but with batch norm: an
infarct's contrast to normal tissue must not be normalised away in a window that holds little else. The last channel is
the mask that rules have found; untrained, the network gives that mask.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CHANNELS = 10
FEATURES = (16, 32, 64, 96)
PRIOR_LOGIT = 2.0
"""What the mask counts for before training."""
_FLAT, _CUBE = (1, 3, 3), (3, 3, 3)


def _convolutions(wide: int, out: int, *kernels: tuple[int, int, int], linear: bool = False) -> nn.Sequential:
    parts: list[nn.Module] = []
    for kernel in kernels:
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        parts += [nn.Conv3d(wide, out, kernel, padding=padding, bias=False), nn.BatchNorm3d(out), nn.ReLU()]
        wide = out
    return nn.Sequential(*parts[: len(parts) - linear])


class InfarctUNet(nn.Module):
    """Image (batch, CHANNELS, z, y, x) to the logit of infarct (batch, 1, z, y, x); z divisible by 4, y and x by 8."""

    strides = ((1, 2, 2), (2, 2, 2), (2, 2, 2))

    def __init__(self) -> None:
        super().__init__()
        kernels = ((_FLAT, _FLAT), (_CUBE, _FLAT), (_CUBE, _CUBE), (_CUBE, _CUBE))
        wide = (CHANNELS, *FEATURES)
        self.down = nn.ModuleList(_convolutions(wide[n], wide[n + 1], *kernels[n]) for n in range(len(FEATURES)))
        self.pool = nn.ModuleList(nn.MaxPool3d(stride) for stride in self.strides)
        self.rise = nn.ModuleList(
            nn.ConvTranspose3d(FEATURES[n + 1], FEATURES[n], stride, stride) for n, stride in enumerate(self.strides)
        )
        self.up = nn.ModuleList(
            _convolutions(2 * FEATURES[n], FEATURES[n], *reversed(kernels[n]), linear=n == 0)
            for n in range(len(self.strides))
        )
        # What it takes has both signs: from rectified features, weights that start at zero learn to say no only.
        self.head = nn.Conv3d(FEATURES[0], 1, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]  # it has one
        self.prior = nn.Parameter(torch.tensor(PRIOR_LOGIT))

    def forward(self, image: Tensor) -> Tensor:
        kept = []
        x = image
        for n, stage in enumerate(self.down):
            x = stage(x if n == 0 else self.pool[n - 1](x))
            kept.append(x)
        for n in reversed(range(len(self.strides))):
            x = self.up[n](torch.cat([self.rise[n](x), kept[n]], dim=1))
        return self.head(x) + self.prior * (2 * image[:, -1:] - 1)
