"""Florence-2's vision tower (DaViT) and projection as torch modules with the originally released parameter names (Ding et
al. 2022, arXiv 2204.03645; Xiao et al. 2023, arXiv 2311.06242)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.inner import inner


@dataclass(frozen=True, slots=True)
class DavitShape:
    """Sizes by stage; those of Florence-2-base by default. ``projection`` is the language model's width."""

    widths: tuple[int, ...] = (128, 256, 512, 1024)
    depths: tuple[int, ...] = (1, 1, 9, 1)
    heads: tuple[int, ...] = (4, 8, 16, 32)
    groups: tuple[int, ...] = (4, 8, 16, 32)
    patches: tuple[int, ...] = (7, 3, 3, 3)
    strides: tuple[int, ...] = (4, 2, 2, 2)
    paddings: tuple[int, ...] = (3, 1, 1, 1)
    norm_first: tuple[bool, ...] = (False, True, True, True)
    window: int = 12
    projection: int = 768
    positions: int = 50
    moments: int = 100


class _Embed(nn.Module):
    def __init__(self, shape: DavitShape, stage: int) -> None:
        super().__init__()
        inward = shape.widths[stage - 1] if stage else 3
        self._first = shape.norm_first[stage]
        self.proj = nn.Conv2d(
            inward, shape.widths[stage], shape.patches[stage], shape.strides[stage], shape.paddings[stage]
        )
        self.norm = nn.LayerNorm(inward if self._first else shape.widths[stage])

    def forward(self, x: Tensor) -> Tensor:
        if self._first:
            return self.proj(_over_channels(self.norm, x))
        return _over_channels(self.norm, self.proj(x))


def _over_channels(norm: nn.Module, x: Tensor) -> Tensor:
    return norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _depthwise(width: int) -> nn.ModuleDict:
    return nn.ModuleDict({"fn": nn.ModuleDict({"dw": nn.Conv2d(width, width, 3, padding=1, groups=width)})})


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)


class _WindowAttention(_Attention):
    """Attention within windows of ``window`` × ``window``; the picture is filled up with zeros."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__(width)
        self._heads, self._window = heads, window

    def forward(self, x: Tensor, rows: int, columns: int) -> Tensor:
        side = self._window
        below, right = -rows % side, -columns % side
        width = x.shape[-1]
        square = F.pad(x.unflatten(1, (rows, columns)), (0, 0, 0, right, 0, below))
        high, wide = (rows + below) // side, (columns + right) // side
        windows = square.reshape(-1, high, side, wide, side, width).permute(0, 1, 3, 2, 4, 5)
        windows = windows.reshape(-1, side * side, width)
        qkv = self.qkv(windows).unflatten(-1, (3, self._heads, -1)).permute(2, 0, 3, 1, 4)
        scores = (qkv[0] * qkv.shape[-1] ** -0.5) @ qkv[1].transpose(-2, -1)
        seen = self.proj((scores.softmax(-1) @ qkv[2]).transpose(1, 2).flatten(2))
        seen = seen.reshape(-1, high, wide, side, side, width).permute(0, 1, 3, 2, 4, 5)
        return seen.reshape(-1, high * side, wide * side, width)[:, :rows, :columns].flatten(1, 2)


class _ChannelAttention(_Attention):
    """Attention among the channels of a group."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__(width)
        self._groups = groups

    def forward(self, x: Tensor, rows: int, columns: int) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self._groups, -1)).permute(2, 0, 3, 4, 1)
        scores = (qkv[0] * (rows * columns) ** -0.5) @ qkv[1].transpose(-2, -1)
        seen = (scores.softmax(-1) @ qkv[2]).permute(0, 3, 1, 2).flatten(2)
        return self.proj(seen)


def _normed(width: int, part: nn.Module) -> nn.ModuleDict:
    return nn.ModuleDict({"norm": nn.LayerNorm(width), "fn": part})


class _Half(nn.Module):
    """One half of a block: local mixing, attention, local mixing, feed-forward, each added."""

    def __init__(self, width: int, name: str, attention: nn.Module) -> None:
        super().__init__()
        self._name = name
        self.conv1, self.conv2 = _depthwise(width), _depthwise(width)
        self.add_module(name, _normed(width, attention))
        net = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.ffn = _normed(width, nn.ModuleDict({"net": net}))

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = x.shape[2:]
        x = x + inner(self.conv1, "fn", "dw")(x)
        tokens = x.flatten(2).transpose(1, 2)
        attention = getattr(self, self._name)
        tokens = tokens + attention["fn"](attention["norm"](tokens), rows, columns)
        x = tokens.transpose(1, 2).unflatten(2, (rows, columns))
        x = x + inner(self.conv2, "fn", "dw")(x)
        tokens = x.flatten(2).transpose(1, 2)
        net = inner(self.ffn, "fn", "net")
        tokens = tokens + net["fc2"](F.gelu(net["fc1"](self.ffn["norm"](tokens))))
        return tokens.transpose(1, 2).unflatten(2, (rows, columns))


def _block(shape: DavitShape, stage: int) -> nn.ModuleDict:
    width = shape.widths[stage]
    window = _WindowAttention(width, shape.heads[stage], shape.window)
    return nn.ModuleDict(
        {
            "spatial_block": _Half(width, "window_attn", window),
            "channel_block": _Half(width, "channel_attn", _ChannelAttention(width, shape.groups[stage])),
        }
    )


class _Tower(nn.Module):
    def __init__(self, shape: DavitShape) -> None:
        super().__init__()
        stages = range(len(shape.widths))
        self.convs = nn.ModuleList(_Embed(shape, stage) for stage in stages)
        self.blocks = nn.ModuleList(
            nn.ModuleList(_block(shape, stage) for _ in range(shape.depths[stage])) for stage in stages
        )

    def forward(self, x: Tensor) -> Tensor:
        for embed, blocks in zip(self.convs, self.blocks, strict=True):
            x = embed(x)
            for block in inner(blocks):
                x = block["channel_block"](block["spatial_block"](x))
        return x


class FlorenceVision(nn.Module):
    """Pixels (n, 3, size, size) to the language model's tokens: the mean of all places, then each place."""

    def __init__(self, shape: DavitShape) -> None:
        super().__init__()
        width = shape.widths[-1]
        self.vision_tower = _Tower(shape)
        self.image_projection = nn.Parameter(torch.zeros(width, shape.projection))
        self.image_proj_norm = nn.LayerNorm(shape.projection)
        self.image_pos_embed = nn.ModuleDict(
            {
                "row_embeddings": nn.Embedding(shape.positions, width // 2),
                "column_embeddings": nn.Embedding(shape.positions, width - width // 2),
            }
        )
        self.visual_temporal_embed = _Moments(shape.moments, width)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.vision_tower(pixel_values)
        rows, columns = x.shape[2:]
        row = inner(self.image_pos_embed, "row_embeddings").weight[:rows]
        column = inner(self.image_pos_embed, "column_embeddings").weight[:columns]
        places = torch.cat([column[None].expand(rows, -1, -1), row[:, None].expand(-1, columns, -1)], -1).flatten(0, 1)
        tokens = x.flatten(2).transpose(1, 2) + places + self.visual_temporal_embed.pos_idx_to_embed[0]
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1)
        return self.image_proj_norm(tokens @ self.image_projection)


class _Moments(nn.Module):
    """Sines and cosines of the moment of a picture; only the first is used, and released files hold all."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        half = width // 2
        turns = torch.exp(torch.arange(half).float() * (-math.log(10000) / half))
        angles = torch.arange(count).float()[:, None] * turns
        table = torch.empty(count, width)
        table[:, 0::2], table[:, 1::2] = angles.sin(), angles.cos()
        self.register_buffer("pos_idx_to_embed", table)
        self.pos_idx_to_embed: Tensor
