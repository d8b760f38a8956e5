"""The vision towers of Qwen2-VL and Qwen2.5-VL for one frozen grid (arXiv 2409.12191, 2502.13923).

Their graphs depend on the number of rows and columns of patches (windows, turns), so each allowed size is a graph of its
own. Patches come in the order :func:`models.generation.pictures.qwen_patches` gives them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.attention import attend
from models.export.decoder_network import RootMeanSquare
from models.export.rotary import UNSCALED, inverse_frequencies, turned

NEVER = float(torch.finfo(torch.float32).min)


@dataclass(frozen=True, slots=True)
class QwenVisionShape:
    """Sizes.

    Attributes
    ----------
    gated : bool
        Qwen2.5-VL: root-mean-square norms, gated feed-forward parts, attention within windows.
    window : int
        Pixels along a window's side.
    full_blocks : tuple of int
        Blocks that look at everything all the same.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    out: int
    patch: int = 14
    merge: int = 2
    temporal: int = 2
    gated: bool = False
    window: int = 112
    full_blocks: tuple[int, ...] = ()
    epsilon: float = 1e-6


class _Block(nn.Module):
    def __init__(self, shape: QwenVisionShape) -> None:
        super().__init__()
        self._heads, self._gated = shape.heads, shape.gated
        self.norm1, self.norm2 = _norm(shape), _norm(shape)
        self.attn = nn.ModuleDict(
            {"qkv": nn.Linear(shape.width, 3 * shape.width), "proj": nn.Linear(shape.width, shape.width)}
        )
        names = ("gate_proj", "up_proj") if shape.gated else ("fc1",)
        parts = {name: nn.Linear(shape.width, shape.hidden) for name in names}
        self.mlp = nn.ModuleDict({**parts, "down_proj" if shape.gated else "fc2": nn.Linear(shape.hidden, shape.width)})

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], bias: Tensor | None) -> Tensor:
        qkv = self.attn["qkv"](self.norm1(x)).unflatten(-1, (3, self._heads, -1)).permute(1, 2, 0, 3)
        query, key = (turned(part[None], *angles) for part in (qkv[0], qkv[1]))
        x = x + self.attn["proj"](attend(query, key, qkv[2][None], bias)[0])
        return x + self._wide(self.norm2(x))

    def _wide(self, x: Tensor) -> Tensor:
        if self._gated:
            return self.mlp["down_proj"](F.silu(self.mlp["gate_proj"](x)) * self.mlp["up_proj"](x))
        wide = self.mlp["fc1"](x)
        return self.mlp["fc2"](wide * torch.sigmoid(1.702 * wide))


def _norm(shape: QwenVisionShape) -> nn.Module:
    return RootMeanSquare(shape.width, shape.epsilon) if shape.gated else nn.LayerNorm(shape.width, eps=shape.epsilon)


class _PatchEmbed(nn.Module):
    def __init__(self, shape: QwenVisionShape) -> None:
        super().__init__()
        kernel = (shape.temporal, shape.patch, shape.patch)
        self.proj = nn.Conv3d(3, shape.width, kernel, stride=kernel, bias=False)

    def forward(self, patches: Tensor) -> Tensor:
        return patches @ self.proj.weight.flatten(1).T


class _Merger(nn.Module):
    def __init__(self, shape: QwenVisionShape) -> None:
        super().__init__()
        self._folded = shape.width * shape.merge**2
        self.ln_q = _norm(shape)
        self.mlp = nn.Sequential(nn.Linear(self._folded, self._folded), nn.GELU(), nn.Linear(self._folded, shape.out))

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.ln_q(x).reshape(-1, self._folded))


class QwenVision(nn.Module):
    """Flattened patches (rows × columns, 3 × temporal × patch × patch) of one image to merged tokens (…, out)."""

    def __init__(self, shape: QwenVisionShape, grid: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.shape, self.grid = shape, grid
        self.patch_embed = _PatchEmbed(shape)
        self.blocks = nn.ModuleList(_Block(shape) for _ in range(shape.layers))
        self.merger = _Merger(shape)

    def for_grid(self, grid: tuple[int, int]) -> QwenVision:
        """The same weights for another number of rows and columns."""
        with torch.device("meta"):
            other = QwenVision(self.shape, grid)
        other.load_state_dict(self.state_dict(), assign=True)
        return other.eval()

    def forward(self, pixel_values: Tensor) -> Tensor:
        if self.grid is None:
            raise ValueError("a grid is needed: Qwen's vision tower is another graph for each size")
        unit = self.shape.merge**2
        x = self.patch_embed(pixel_values)
        order, bias = None, None
        places = patch_places(self.grid, self.shape.merge)
        if self.shape.gated:
            order, windows = window_order(self.grid, self.shape)
            x = x.unflatten(0, (-1, unit))[order].flatten(0, 1)
            places = places.unflatten(0, (-1, unit))[order].flatten(0, 1)
            owner = windows.repeat_interleave(unit)
            bias = torch.where(owner[:, None] == owner[None], 0.0, NEVER)[None, None]
        angles = self._angles(places)
        for number, block in enumerate(self.blocks):
            x = block(x, angles, bias if number not in self.shape.full_blocks else None)
        merged = self.merger(x)
        return merged if order is None else merged[torch.argsort(order)]

    def _angles(self, places: Tensor) -> tuple[Tensor, Tensor]:
        size = self.shape.width // self.shape.heads
        frequencies = inverse_frequencies(size // 2, 10000.0, UNSCALED)
        turns = (places[..., None].to(torch.float32) * frequencies).flatten(1)
        turns = torch.cat([turns, turns], -1)[None, None]
        return turns.cos(), turns.sin()


def patch_places(grid: tuple[int, int], merge: int) -> Tensor:
    """Row and column of each patch, (patches, 2), in the order in which patches that merge are neighbours."""
    rows, columns = grid
    places = torch.stack(
        [torch.arange(rows)[:, None].expand(rows, columns), torch.arange(columns)[None].expand(rows, columns)], -1
    )
    blocks = places.reshape(rows // merge, merge, columns // merge, merge, 2)
    return blocks.permute(0, 2, 1, 3, 4).reshape(-1, 2)


def window_order(grid: tuple[int, int], shape: QwenVisionShape) -> tuple[Tensor, Tensor]:
    """Merged tokens window by window, and the window of each in that order."""
    rows, columns = (length // shape.merge for length in grid)
    side = shape.window // shape.merge // shape.patch
    tokens = torch.arange(rows * columns)
    window = (tokens // columns) // side * -(-columns // side) + (tokens % columns) // side
    order = torch.argsort(window, stable=True)
    return order, window[order]
