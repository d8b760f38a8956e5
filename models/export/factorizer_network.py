"""Factorizer's two networks as torch modules with their parameter names: a residual U-Net, and one of matrix factorisations.

Each block of the second rolls its image by some voxels, cuts it into patches, takes each patch of each head for a
non-negative matrix (channels x voxels), and replaces that by the best product of one column and one row that some rounds of
least squares from a stored start find. Ashtari et al., Med Image Anal 2023 84:102706.

Sources: pashtari/factorizer@8acbd54 factorizer/unet.py, factorization/matrix_factorizations.py; @3004e82
factorization/operations.py; @1c44652 factorizer/factorizer.py. Sizes: pashtari/factorizer-isles22@a6deb83 configs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_GROUPS = 8
_LEAST = 1e-8
Block = Callable[[int, int, int, bool], nn.Module]
"""Channels in, channels out, level (0 is the finest), whether it is the first of the deepest: to a block."""


@dataclass(frozen=True, slots=True)
class FactorizerShape:
    """Sizes; the defaults are those of ISLES'22.

    Attributes
    ----------
    width : tuple of int
        Channels at each level; each level below the first halves the grid.
    heads : int
        Outputs that training supervises, from the finest level down; the first is the answer.
    window : tuple of int
        Grid the factorising network takes, x, y, z; empty: the residual U-Net, which takes any.
    head_width, patch : int
        Channels of a matrix, and voxels along each side of its patch.
    wider : int
        How much wider than the image the perceptrons are inside.
    shifts : tuple of int
        Voxels the image is rolled by along every axis before it is cut; the answers are averaged.
    rounds : int
        Of least squares.
    """

    channels: int = 3
    outputs: int = 1
    width: tuple[int, ...] = (32, 64, 128, 256, 512)
    heads: int = 3
    window: tuple[int, ...] = ()
    head_width: int = 8
    patch: int = 4
    wider: int = 2
    shifts: tuple[int, ...] = (0, 1, 2, 3)
    rounds: int = 5


class _Linear(nn.Module):
    """A linear layer over the channels of (n, channels, …), under the name ``linear``."""

    def __init__(self, inward: int, out: int, *, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Conv1d(inward, out, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(2)).unflatten(2, x.shape[2:])


class _Norm(nn.Module):
    """Layer norm over the channels of (n, channels, x, y, z)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)


class _Start(nn.Module):
    """The column and the row each factorisation starts from: drawn once, kept with the weights."""

    u0: Tensor
    v0: Tensor

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.register_buffer("u0", torch.rand(rows, 1))
        self.register_buffer("v0", torch.rand(columns, 1))


class _RankOne(nn.Module):
    """Non-negative matrices (n, rows, columns) to their approximations by one column times one row."""

    def __init__(self, rows: int, columns: int, rounds: int) -> None:
        super().__init__()
        self.init = _Start(rows, columns)
        self._rounds = rounds

    def forward(self, x: Tensor) -> Tensor:
        u, v = self.init.u0[None], self.init.v0[None]
        for _ in range(self._rounds):
            u = F.relu((x @ v + _LEAST) / (_turned(v) @ v + _LEAST))
            v = F.relu((_turned(x) @ u + _LEAST) / (_turned(u) @ u + _LEAST))
        return u @ _turned(v)


def _turned(x: Tensor) -> Tensor:
    """Matrices (n, rows, columns) to (n, columns, rows)."""
    return x.transpose(1, 2)


class _Factorised(nn.Module):
    """Image (n, width, x, y, z) to what is left of it when every patch is one column times one row."""

    def __init__(self, width: int, grid: tuple[int, ...], shape: FactorizerShape) -> None:
        super().__init__()
        self.in_proj = _Linear(width, width, bias=False)
        self.factorize = _RankOne(shape.head_width, shape.patch ** len(grid), shape.rounds)
        self.out_proj = _Linear(width, width)
        self._parts = [width // shape.head_width, shape.head_width]
        for side in grid:
            self._parts += [side // shape.patch, shape.patch]
        self._grid, self._shifts = grid, shape.shifts

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.in_proj(x))
        made = [_rolled(self._approximated(_rolled(x, step)), -step) for step in self._shifts]
        return self.out_proj(torch.stack(made).mean(0))

    def _approximated(self, x: Tensor) -> Tensor:
        return self._back(self.factorize(self._matrices(x)))

    def _matrices(self, x: Tensor) -> Tensor:
        """(n · heads · patches, channels of a head, voxels of a patch)."""
        split = x.reshape(-1, *self._parts)  # n, heads, channels, then patches and voxels of each axis in turn
        return split.permute(0, 1, 3, 5, 7, 2, 4, 6, 8).reshape(
            -1, self._parts[1], self._parts[3] * self._parts[5] * self._parts[7]
        )

    def _back(self, matrices: Tensor) -> Tensor:
        heads, channels, *sides = self._parts
        split = matrices.reshape(-1, heads, *sides[::2], channels, *sides[1::2])
        return split.permute(0, 1, 5, 2, 6, 3, 7, 4, 8).reshape(-1, heads * channels, *self._grid)


def _rolled(x: Tensor, step: int) -> Tensor:
    """(n, channels, …) rolled along every axis of the grid."""
    axes = tuple(range(2, x.ndim))
    return torch.roll(x, (step,) * len(axes), axes) if step else x


class _Perceptron(nn.Module):
    """Two linear layers."""

    def __init__(self, width: int, wide: int) -> None:
        super().__init__()
        dropped = nn.Identity()  # dropout, which says nothing after training; it keeps the numbers of the others
        self.block = nn.Sequential(_Linear(width, wide), nn.GELU(), dropped, _Linear(wide, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class _Residual(nn.Module):
    """A part after a norm, beside a skip."""

    def __init__(self, width: int, part: nn.Module) -> None:
        super().__init__()
        self.fn = nn.Sequential(_Norm(width), part)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fn(x)


class _Position(nn.Module):
    """What is added at each place."""

    def __init__(self, width: int, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.pos = nn.Parameter(torch.zeros(1, width, *grid))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pos


class _FactorizerBlock(nn.Module):
    """Factorisation, then perceptron."""

    def __init__(self, inward: int, width: int, grid: tuple[int, ...], shape: FactorizerShape, *, placed: bool) -> None:
        super().__init__()
        if inward != width:
            self.adapter = nn.Sequential(_Linear(inward, width, bias=False))
        if placed:
            self.pos_embed = _Position(inward, grid)
        parts = {"nmf": _Factorised(width, grid, shape), "mlp": _Perceptron(width, shape.wider * width)}
        self.blocks = nn.ModuleDict({name: _Residual(width, part) for name, part in parts.items()})

    def forward(self, x: Tensor) -> Tensor:
        for name in ("adapter", "pos_embed"):
            if hasattr(self, name):
                x = getattr(self, name)(x)
        for each in self.blocks.values():
            x = each(x)
        return x


class _ResidualBlock(nn.Module):
    """Convolution, norm, twice, beside a skip."""

    def __init__(self, inward: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inward, width, 3, padding=1)
        self.norm1 = nn.GroupNorm(_GROUPS, width)
        self.conv2 = nn.Conv3d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(_GROUPS, width)
        self.shortcut = nn.Identity() if inward == width else nn.Conv3d(inward, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        made = self.norm2(self.conv2(F.leaky_relu(self.norm1(self.conv1(x)))))
        return F.leaky_relu(made + self.shortcut(x))


class _Stage(nn.Module):
    """One level, way down."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class _Rise(_Stage):
    """One level, way up: enlarged, beside what was there on the way down."""

    def __init__(self, inward: int, width: int, block: nn.Module) -> None:
        super().__init__(block)
        self.upsample = nn.ConvTranspose3d(inward, width, 2, 2)

    def forward(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        assert beside is not None
        return self.blocks(torch.cat([beside, self.upsample(x)], 1))


class _Way(nn.Module):
    """The levels one after the other, under the name ``blocks``."""

    def __init__(self, stages: list[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(stages)


class FactorizerNet(nn.Module):
    """Image (n, channels, x, y, z) to logits (n, outputs, x, y, z).

    The sides are those of the window, or multiples of 2 to the power of the levels below the first.
    """

    def __init__(self, shape: FactorizerShape) -> None:
        super().__init__()
        self.shape = shape
        block = _blocks(shape)
        width, last = shape.width, len(shape.width) - 1
        self.stem = nn.Conv3d(shape.channels, width[0], 3, padding=1, bias=False)
        down: list[nn.Module] = [_Stage(block(width[0], width[0], 0, last == 0))]
        for level in range(1, last + 1):
            halved = nn.Conv3d(width[level - 1], width[level], 2, 2, bias=False)
            down.append(_Stage(halved, block(width[level], width[level], level, level == last)))
        self.encoder = _Way(down)
        levels = range(last - 1, -1, -1)
        self.decoder = _Way([_Rise(width[n + 1], width[n], block(2 * width[n], width[n], n, False)) for n in levels])
        self.heads = nn.ModuleList([nn.Conv3d(width[n], shape.outputs, 1) for n in range(shape.heads)])

    def forward(self, image: Tensor) -> Tensor:
        x, beside = self.stem(image), []
        for stage in self.encoder.blocks:
            x = stage(x)
            beside.append(x)
        for stage, skip in zip(self.decoder.blocks, beside[-2::-1], strict=True):
            x = stage(x, skip)
        return self.heads[0](x)


def _blocks(shape: FactorizerShape) -> Block:
    if not shape.window:
        return lambda inward, width, _level, _deepest: _ResidualBlock(inward, width)

    def made(inward: int, width: int, level: int, deepest: bool) -> nn.Module:
        grid = tuple(side // 2**level for side in shape.window)
        return _FactorizerBlock(inward, width, grid, shape, placed=deepest)

    return made
