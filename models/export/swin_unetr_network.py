"""Swin UNETR as MulModSeg has it, as torch modules with MONAI's parameter names (Hatamizadeh et al. 2022, arXiv 2201.01266).

Source: ljwztc/CLIP-Driven-Universal-Model, ``model/SwinUNETR.py``, with the blocks of Project-MONAI/MONAI 1.x. What looks odd is
as released: merging reads two of its eight corners twice, and a window that is cut to a small grid takes the beginning of
the table of places as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.inner import inner

_MASKED = -100.0
_LEAK = 0.01
_CORNERS = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1))
"""In the order, and with the repetitions, of the released code."""


@dataclass(frozen=True, slots=True)
class SwinUnetrShape:
    """Sizes of the network; the defaults are MulModSeg's. Each stage halves the grid, of which the first has size / 2."""

    size: int = 96
    width: int = 48
    depths: tuple[int, ...] = (2, 2, 2, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int = 7

    @property
    def deep(self) -> int:
        """Channels of the deepest features."""
        return self.width << len(self.depths)

    @property
    def outward(self) -> int:
        """Channels of the last features."""
        return self.width


def relative_places(window: int) -> Tensor:
    """Row of the table of biases for each pair of places in a window, (window³, window³)."""
    axes = torch.meshgrid(*[torch.arange(window)] * 3, indexing="ij")
    places = torch.stack([axis.flatten() for axis in axes])
    apart = places[:, :, None] - places[:, None, :] + window - 1
    side = 2 * window - 1
    return (apart[0] * side + apart[1]) * side + apart[2]


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 3, heads))
        self.relative_position_index: Tensor
        self.register_buffer("relative_position_index", relative_places(window))
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(windows, places, width) to the same."""
        places = x.shape[1]
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        index = self.relative_position_index[:places, :places].flatten()
        bias = self.relative_position_bias_table[index].unflatten(0, (places, places)).permute(2, 0, 1)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + bias
        if mask is not None:
            scores = (scores.unflatten(0, (-1, mask.shape[0])) + mask[:, None]).flatten(0, 1)
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class _Block(nn.Module):
    """Attention within windows of a cube of ``side`` places, shifted or not, and two linear layers, both residual."""

    def __init__(self, width: int, heads: int, side: int, window: int, *, shifted: bool) -> None:
        super().__init__()
        self._side, self._window = side, min(window, side)
        self._shift = window // 2 if shifted and side > window else 0
        self._padded = -(-side // self._window) * self._window
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = _Attention(width, heads, window)
        self.mlp = nn.ModuleDict({"linear1": nn.Linear(width, 4 * width), "linear2": nn.Linear(4 * width, width)})
        self._mask: Tensor | None
        self.register_buffer("_mask", self._apart() if self._shift else None, persistent=False)

    def _apart(self) -> Tensor:
        """(windows, places, places): what a window that lies across the border must not mix."""
        band = torch.zeros(self._padded, dtype=torch.int64)
        band[-self._window : -self._shift] = 1
        band[-self._shift :] = 2
        number = band[:, None, None] * 9 + band[None, :, None] * 3 + band[None, None, :]
        windows = self._split(number[None, ..., None])[..., 0]
        return torch.where(windows[:, :, None] == windows[:, None, :], 0.0, _MASKED)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._mixed(self.norm1(x))
        return x + self.mlp["linear2"](F.gelu(self.mlp["linear1"](self.norm2(x))))

    def _mixed(self, x: Tensor) -> Tensor:
        side, missing = self._side, self._padded - self._side
        x = F.pad(x, (0, 0, 0, missing, 0, missing, 0, missing)) if missing else x
        x = self._rolled(x, self._shift)
        x = self._joined(self.attn(self._split(x), self._mask))
        return self._rolled(x, self._padded - self._shift)[:, :side, :side, :side]

    def _rolled(self, x: Tensor, by: int) -> Tensor:
        """Each axis begins ``by`` places later."""
        if by in (0, self._padded):
            return x
        for axis in (1, 2, 3):
            x = torch.cat([x.narrow(axis, by, self._padded - by), x.narrow(axis, 0, by)], axis)
        return x

    def _split(self, x: Tensor) -> Tensor:
        """(n, side, side, side, c) to (n · windows, places, c)."""
        count = self._padded // self._window
        for axis in (3, 2, 1):
            x = x.unflatten(axis, (count, self._window))
        return x.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4, 6).flatten(0, 3)

    def _joined(self, x: Tensor) -> Tensor:
        count, window = self._padded // self._window, self._window
        x = x.unflatten(1, (window, window, window)).unflatten(0, (-1, count, count, count))
        return x.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(5, 6).flatten(3, 4).flatten(1, 2)


class _Stage(nn.Module):
    """Blocks, then eight places become one of twice the channels."""

    def __init__(self, number: int, shape: SwinUnetrShape) -> None:
        super().__init__()
        width, side = shape.width << number, (shape.size // 2) >> number
        self.blocks = nn.ModuleList(
            _Block(width, shape.heads[number], side, shape.window, shifted=bool(n % 2))
            for n in range(shape.depths[number])
        )
        self.downsample = nn.ModuleDict(
            {"norm": nn.LayerNorm(8 * width), "reduction": nn.Linear(8 * width, 2 * width, bias=False)}
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        corners = torch.cat([x[:, z::2, y::2, x_::2] for z, y, x_ in _CORNERS], -1)
        return self.downsample["reduction"](self.downsample["norm"](corners))


class _Residual(nn.Module):
    """Two convolutions beside a shortcut, normalised by the image's own statistics."""

    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _conv(inward, outward, 3), _conv(outward, outward, 3)
        self.conv3 = _conv(inward, outward, 1) if inward != outward else None

    def forward(self, x: Tensor) -> Tensor:
        made = F.leaky_relu(F.instance_norm(self.conv1["conv"](x)), _LEAK)
        made = F.instance_norm(self.conv2["conv"](made))
        beside = x if self.conv3 is None else F.instance_norm(self.conv3["conv"](x))
        return F.leaky_relu(made + beside, _LEAK)


def _conv(inward: int, outward: int, size: int) -> nn.ModuleDict:
    return nn.ModuleDict({"conv": nn.Conv3d(inward, outward, size, padding=size // 2, bias=False)})


class _Up(nn.Module):
    """Twice the size, and what lies beside it."""

    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.transp_conv = nn.ModuleDict({"conv": nn.ConvTranspose3d(inward, outward, 2, 2, bias=False)})
        self.conv_block = _Residual(2 * outward, outward)

    def forward(self, x: Tensor, beside: Tensor) -> Tensor:
        return self.conv_block(torch.cat([self.transp_conv["conv"](x), beside], 1))


class SwinUnetr(nn.Module):
    """Image (n, 1, size, size, size) to the deepest features (n, deep, size / 32, …) and the last (n, width, size, …)."""

    def __init__(self, shape: SwinUnetrShape) -> None:
        super().__init__()
        w, stages = shape.width, range(len(shape.depths))
        self.swinViT = nn.ModuleDict({"patch_embed": nn.ModuleDict({"proj": nn.Conv3d(1, w, 2, 2)})})
        for n in stages:
            self.swinViT[f"layers{n + 1}"] = nn.ModuleList([_Stage(n, shape)])
        for name, inward, outward in ((1, 1, w), (2, w, w), (3, 2 * w, 2 * w), (4, 4 * w, 4 * w), (10, 16 * w, 16 * w)):
            setattr(self, f"encoder{name}", nn.ModuleDict({"layer": _Residual(inward, outward)}))
        for name, inward, outward in (
            (5, 16 * w, 8 * w),
            (4, 8 * w, 4 * w),
            (3, 4 * w, 2 * w),
            (2, 2 * w, w),
            (1, w, w),
        ):
            setattr(self, f"decoder{name}", _Up(inward, outward))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = inner(self.swinViT, "patch_embed", "proj")(image).permute(0, 2, 3, 4, 1)
        hidden = [_levelled(x)]
        for n in range(1, 5):
            x = inner(self.swinViT, f"layers{n}")[0](x)
            hidden.append(_levelled(x))
        beside = [
            inner(self, f"encoder{n}", "layer")(each) for n, each in zip((1, 2, 3, 4), (image, *hidden), strict=False)
        ]
        deep = inner(self, "encoder10", "layer")(hidden[4])
        x = deep
        for n, each in zip((5, 4, 3, 2, 1), (hidden[3], *reversed(beside)), strict=True):
            x = getattr(self, f"decoder{n}")(x, each)
        return deep, x


def _levelled(x: Tensor) -> Tensor:
    """(n, …, c) with every place's channels at mean 0 and deviation 1, channels first."""
    return F.layer_norm(x, x.shape[-1:]).permute(0, 4, 1, 2, 3)
