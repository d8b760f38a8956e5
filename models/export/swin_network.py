"""Swin transformer as torch modules with the names of transformers' ``SwinModel`` as published (Liu et al. 2021).

The published files also hold ``relative_position_index``, which follows from the window and is made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STALE = "relative_position_index"
"""Buffer of published files that says nothing."""
_EPSILON = 1e-5
_MASKED = -100.0


@dataclass(frozen=True, slots=True)
class SwinShape:
    """Sizes of a Swin transformer; the image side must be a multiple of patch · window · 2^(stages - 1)."""

    size: int = 224
    patch: int = 4
    width: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int = 7
    mlp_ratio: int = 4

    @property
    def out_width(self) -> int:
        """Channels after the last stage."""
        return self.width << (len(self.depths) - 1)


class _WindowAttention(nn.Module):
    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self._tokens = heads, window * window
        self._index: Tensor
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("_index", _relative_places(window), persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
        bias = self.relative_position_bias_table[self._index.flatten()].unflatten(0, (self._tokens, self._tokens))
        scores = scores + bias.permute(2, 0, 1)
        if mask is not None:
            windows = mask.shape[0]
            scores = scores.unflatten(0, (-1, windows)) + mask[:, None]
            scores = scores.flatten(0, 1)
        return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def _relative_places(window: int) -> Tensor:
    """Row of the bias table for each pair of places in a window."""
    places = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
    apart = (places[:, :, None] - places[:, None, :]) + window - 1
    return apart[0] * (2 * window - 1) + apart[1]


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, side: int, shift: bool, shape: SwinShape) -> None:
        super().__init__()
        self._side = side
        self._window = min(shape.window, side)
        self._shift = self._window // 2 if shift and side > shape.window else 0
        self.layernorm_before = nn.LayerNorm(width, eps=_EPSILON)
        self.attention = nn.ModuleDict(
            {
                "self": _WindowAttention(width, heads, self._window),
                "output": nn.ModuleDict({"dense": nn.Linear(width, width)}),
            }
        )
        self.layernorm_after = nn.LayerNorm(width, eps=_EPSILON)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, shape.mlp_ratio * width)})
        self.output = nn.ModuleDict({"dense": nn.Linear(shape.mlp_ratio * width, width)})
        self.register_buffer("_mask", self._shift_mask() if self._shift else None, persistent=False)

    def _shift_mask(self) -> Tensor:
        """(windows, tokens, tokens): what a shifted window must not mix."""
        window, shift, side = self._window, self._shift, self._side
        band = torch.zeros(side, dtype=torch.int64)
        band[side - window : side - shift] = 1
        band[side - shift :] = 2
        number = _split((band[:, None] * 3 + band[None, :])[None, :, :, None].to(torch.float32), window)[..., 0]
        return torch.where(number[:, :, None] == number[:, None, :], 0.0, _MASKED)

    def _mixed(self, windows: Tensor) -> Tensor:
        output = self.attention["output"]
        assert isinstance(output, nn.ModuleDict)
        return output["dense"](self.attention["self"](windows, self._mask))

    def forward(self, x: Tensor) -> Tensor:
        side, window, shift = self._side, self._window, self._shift
        grid = self.layernorm_before(x).unflatten(1, (side, side))
        if shift:
            grid = torch.cat([grid[:, shift:], grid[:, :shift]], 1)
            grid = torch.cat([grid[:, :, shift:], grid[:, :, :shift]], 2)
        mixed = self._mixed(_split(grid, window))
        grid = _joined(mixed, window, side)
        if shift:
            grid = torch.cat([grid[:, side - shift :], grid[:, : side - shift]], 1)
            grid = torch.cat([grid[:, :, side - shift :], grid[:, :, : side - shift]], 2)
        x = x + grid.flatten(1, 2)
        return x + self.output["dense"](F.gelu(self.intermediate["dense"](self.layernorm_after(x))))


def _split(grid: Tensor, window: int) -> Tensor:
    """(n, side, side, c) to (n · windows, window², c)."""
    count = grid.shape[1] // window
    parts = grid.unflatten(2, (count, window)).unflatten(1, (count, window))
    return parts.transpose(2, 3).flatten(0, 2).flatten(1, 2)


def _joined(parts: Tensor, window: int, side: int) -> Tensor:
    count = side // window
    grid = parts.unflatten(1, (window, window)).unflatten(0, (-1, count, count))
    return grid.transpose(2, 3).flatten(3, 4).flatten(1, 2)


class _Merging(nn.Module):
    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self._side = side
        self.norm = nn.LayerNorm(4 * width, eps=_EPSILON)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        grid = x.unflatten(1, (self._side, self._side))
        parts = [grid[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(parts, -1).flatten(1, 2)))


class _Stage(nn.Module):
    def __init__(self, number: int, shape: SwinShape) -> None:
        super().__init__()
        width, side = shape.width << number, (shape.size // shape.patch) >> number
        self.blocks = nn.ModuleList(
            _Block(width, shape.heads[number], side, bool(n % 2), shape) for n in range(shape.depths[number])
        )
        self.downsample = _Merging(width, side) if number + 1 < len(shape.depths) else None

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class Swin(nn.Module):
    """Images (n, 3, size, size) to tokens (n, side², channels) after the last normalisation."""

    def __init__(self, shape: SwinShape) -> None:
        super().__init__()
        self.shape = shape
        projection = nn.Conv2d(3, shape.width, shape.patch, shape.patch)
        self.embeddings = nn.ModuleDict(
            {
                "patch_embeddings": nn.ModuleDict({"projection": projection}),
                "norm": nn.LayerNorm(shape.width, eps=_EPSILON),
            }
        )
        stages = nn.ModuleList(_Stage(number, shape) for number in range(len(shape.depths)))
        self.encoder = nn.ModuleDict({"layers": stages})
        self.layernorm = nn.LayerNorm(shape.out_width, eps=_EPSILON)

    def forward(self, images: Tensor) -> Tensor:
        embedding = self.embeddings["patch_embeddings"]
        assert isinstance(embedding, nn.ModuleDict)
        x = self.embeddings["norm"](embedding["projection"](images).flatten(2).transpose(1, 2))
        for stage in self._stages:
            x = stage(x)
        return self.layernorm(x)

    @property
    def _stages(self) -> Sequence[nn.Module]:
        layers = self.encoder["layers"]
        assert isinstance(layers, nn.ModuleList)
        return list(layers)
