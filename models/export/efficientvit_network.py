"""EfficientViT-SAM as MedficientSAM has it, as torch modules with the released parameter names (arXiv 2402.05008).

Sources: mit-han-lab/efficientvit, ``efficientvit/models/nn/ops.py`` and ``efficientvit/models/efficientvit/{backbone,sam}.py``;
``efficientvit/sam_model_zoo.py`` sets every normalisation's epsilon to 1e-6, of the decoder, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.inner import inner
from models.export.sam_network import ChannelNorm, MaskDecoder, PromptEncoder, SamShape

_EPSILON = 1e-6
_HEAD = 32
"""Channels of a head of the linear attention."""
_LEAST = 1e-15
_AGGREGATED = 5
"""Side of the neighbourhood that keys and values are gathered over besides their own places."""


@dataclass(frozen=True, slots=True)
class EfficientShape:
    """Sizes of the network; the defaults are L0's. Every stage halves the image; the last three go into the embedding.

    Attributes
    ----------
    depths : tuple of int
        Blocks of each stage behind its first.
    neck : int
        Blocks of the neck.
    neck_width : int
        Channels of the neck, which are the embedding's.
    """

    image_size: int = 512
    widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    depths: tuple[int, ...] = (1, 1, 1, 4, 4)
    neck: int = 4
    neck_width: int = 256
    decoder_mlp: int = 2048

    @property
    def grid(self) -> int:
        """Places of the embedding along each side."""
        return self.image_size // 8


L0 = EfficientShape()
L1 = EfficientShape(depths=(1, 1, 1, 6, 6), neck=8)
L2 = EfficientShape(depths=(1, 2, 2, 8, 8), neck=12)


def _gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _conv(
    inward: int, outward: int, size: int = 1, stride: int = 1, *, normed: bool = True, apart: bool = False
) -> nn.ModuleDict:
    """A convolution with a normalisation, or with a bias in its place."""
    groups = inward if apart else 1
    parts: dict[str, nn.Module] = {
        "conv": nn.Conv2d(inward, outward, size, stride, size // 2, groups=groups, bias=not normed)
    }
    if normed:
        parts["norm"] = nn.BatchNorm2d(outward, _EPSILON)
    return nn.ModuleDict(parts)


def _run(layer: nn.ModuleDict, x: Tensor) -> Tensor:
    x = layer["conv"](x)
    return layer["norm"](x) if "norm" in layer else x


class _Sequence(nn.Module):
    """Named parts one after the other, GELU between them, beside a shortcut where there is one."""

    def __init__(self, parts: dict[str, nn.ModuleDict], *, shortcut: bool) -> None:
        super().__init__()
        self.main = nn.ModuleDict(parts)
        self._shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        made = x
        for number, part in enumerate(self.main.values()):
            assert isinstance(part, nn.ModuleDict)
            made = _run(part, _gelu(made) if number else made)
        return made + x if self._shortcut else made


def _residual(width: int) -> _Sequence:
    return _Sequence({"conv1": _conv(width, width, 3), "conv2": _conv(width, width, 3)}, shortcut=True)


def _fused(inward: int, outward: int, wider: int, stride: int = 1) -> _Sequence:
    middle = inward * wider
    parts = {"spatial_conv": _conv(inward, middle, 3, stride), "point_conv": _conv(middle, outward)}
    return _Sequence(parts, shortcut=stride == 1)


def _inverted(inward: int, outward: int, wider: int, stride: int = 1) -> _Sequence:
    middle = inward * wider
    parts = {
        "inverted_conv": _conv(inward, middle, normed=False),
        "depth_conv": _conv(middle, middle, 3, stride, normed=False, apart=True),
        "point_conv": _conv(middle, outward),
    }
    return _Sequence(parts, shortcut=stride == 1)


class _LinearAttention(nn.Module):
    """Attention with ReLU in place of the exponential, so that keys meet values before the queries: linear in places."""

    def __init__(self, width: int) -> None:
        super().__init__()
        heads, all_three = width // _HEAD, 3 * width
        self.qkv = nn.ModuleDict({"conv": nn.Conv2d(width, all_three, 1, bias=False)})
        gathered = nn.Sequential(
            nn.Conv2d(all_three, all_three, _AGGREGATED, padding=_AGGREGATED // 2, groups=all_three, bias=False),
            nn.Conv2d(all_three, all_three, 1, groups=3 * heads, bias=False),
        )
        self.aggreg = nn.ModuleList([gathered])
        self.proj = _conv(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv["conv"](x)
        both = torch.cat([qkv, self.aggreg[0](qkv)], 1)
        # Of each head its own query, key and value lie side by side.
        q, k, v = both.flatten(2).unflatten(1, (-1, 3 * _HEAD)).chunk(3, 2)
        q, k = F.relu(q), F.relu(k)
        total = k.sum(-1, keepdim=True)
        made = (v @ k.transpose(-1, -2)) @ q / (total.transpose(-1, -2) @ q + _LEAST)
        return _run(self.proj, made.flatten(1, 2).unflatten(-1, x.shape[2:]))


class _Attending(nn.Module):
    """Linear attention, then an inverted bottleneck, both residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.context_module = nn.ModuleDict({"main": _LinearAttention(width)})
        self.local_module = _inverted(width, width, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.local_module(x + self.context_module["main"](x))


class _Stem(nn.Module):
    """Half the image, through GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width, _EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return _gelu(self.norm(self.conv(x)))


Block = Callable[[int], nn.Module]


def _stage(first: nn.Module, block: Block, width: int, depth: int) -> nn.ModuleDict:
    return nn.ModuleDict({"op_list": nn.ModuleList([first, *(block(width) for _ in range(depth))])})


class EfficientVit(nn.Module):
    """Pixels (n, 3, size, size) to embeddings (n, neck_width, grid, grid)."""

    def __init__(self, shape: EfficientShape) -> None:
        super().__init__()
        w, depths = shape.widths, shape.depths
        stages = [
            _stage(_Stem(w[0]), _residual, w[0], depths[0]),
            _stage(_fused(w[0], w[1], 16, 2), lambda n: _fused(n, n, 4), w[1], depths[1]),
            _stage(_fused(w[1], w[2], 16, 2), lambda n: _fused(n, n, 4), w[2], depths[2]),
            _stage(_inverted(w[2], w[3], 16, 2), lambda n: _inverted(n, n, 4), w[3], depths[3]),
            _stage(_inverted(w[3], w[4], 24, 2), _Attending, w[4], depths[4]),
        ]
        self.backbone = nn.ModuleDict({"stages": nn.ModuleList(stages)})
        self.neck = nn.ModuleDict(
            {
                "input_ops": nn.ModuleList(_listed(_conv(n, shape.neck_width)) for n in (w[4], w[3], w[2])),
                "middle": _listed(*(_fused(shape.neck_width, shape.neck_width, 1) for _ in range(shape.neck))),
                "output_ops": nn.ModuleList([_listed(_conv(shape.neck_width, shape.neck_width, normed=False))]),
            }
        )
        self.norm = ChannelNorm(shape.neck_width)
        self._grid = shape.grid

    def forward(self, pixels: Tensor) -> Tensor:
        made, x = [], pixels
        for stage in inner(self.backbone, "stages"):
            for block in stage["op_list"]:
                x = block(x)
            made.append(x)
        size = (self._grid, self._grid)
        parts = [
            F.interpolate(_run(each["op_list"][0], feature), size, mode="bicubic", align_corners=False)
            for each, feature in zip(inner(self.neck, "input_ops"), reversed(made[2:]), strict=True)
        ]
        x = parts[0] + parts[1] + parts[2]
        for block in inner(self.neck, "middle", "op_list"):
            x = block(x)
        return self.norm(_run(inner(self.neck, "output_ops")[0]["op_list"][0], x))


def _listed(*parts: nn.Module) -> nn.ModuleDict:
    return nn.ModuleDict({"op_list": nn.ModuleList(parts)})


class EfficientSam(nn.Module):
    """The whole model, as a checkpoint holds it."""

    def __init__(self, shape: EfficientShape) -> None:
        super().__init__()
        prompts = SamShape(
            image_size=shape.image_size,
            patch=shape.image_size // shape.grid,
            prompt_width=shape.neck_width,
            decoder_mlp=shape.decoder_mlp,
        )
        self.shape = prompts
        self.image_encoder = EfficientVit(shape)
        self.prompt_encoder = PromptEncoder(prompts)
        self.mask_decoder = MaskDecoder(prompts)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = _EPSILON
