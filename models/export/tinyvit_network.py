"""TinyViT as LiteMedSAM has it, as torch modules with the released parameter names (Wu et al. 2022, arXiv 2207.10666).

Against the published TinyViT the first convolutions do not shrink, so that 256 pixels give an embedding of 64 × 64; source:
bowang-lab/MedSAM, ``tiny_vit_sam.py`` and ``CVPR24_LiteMedSAM_infer.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.sam_network import ChannelNorm, MaskDecoder, PromptEncoder, SamShape


@dataclass(frozen=True, slots=True)
class TinyVitShape:
    """Sizes of the image encoder; the defaults are LiteMedSAM's. A stage halves the grid, but for the last."""

    image_size: int = 256
    widths: tuple[int, ...] = (64, 128, 160, 320)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (2, 4, 5, 10)
    windows: tuple[int, ...] = (7, 7, 14, 7)
    prompt_width: int = 256
    decoder_mlp: int = 2048

    @property
    def grid(self) -> int:
        """Places of the embedding along each side."""
        return self.image_size >> (len(self.widths) - 2)


class _NormedConv(nn.Sequential):
    def __init__(self, inward: int, outward: int, size: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.add_module("c", nn.Conv2d(inward, outward, size, stride, size // 2, groups=groups, bias=False))
        self.add_module("bn", nn.BatchNorm2d(outward))


class _Convolutions(nn.Module):
    """Wide, depth by depth, narrow; beside a shortcut."""

    def __init__(self, width: int, expansion: int = 4) -> None:
        super().__init__()
        hidden = width * expansion
        self.conv1, self.conv3 = _NormedConv(width, hidden), _NormedConv(hidden, width)
        self.conv2 = _NormedConv(hidden, hidden, 3, groups=hidden)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x))))) + x)


class _Merging(nn.Module):
    def __init__(self, inward: int, outward: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv3 = _NormedConv(inward, outward), _NormedConv(outward, outward)
        self.conv2 = _NormedConv(outward, outward, 3, stride, groups=outward)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


def offset_numbers(side: int) -> Tensor:
    """(side², side²): number of the bias for each pair of places, in the order in which distances first occur."""
    places = list(product(range(side), repeat=2))
    known: dict[tuple[int, int], int] = {}
    numbers = [known.setdefault((abs(a[0] - b[0]), abs(a[1] - b[1])), len(known)) for a in places for b in places]
    return torch.tensor(numbers).reshape(len(places), len(places))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        self._numbers: Tensor
        self.register_buffer("_numbers", offset_numbers(window), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # Of each head its own query, key and value lie side by side.
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2).chunk(3, -1)
        tokens = x.shape[1]
        bias = self.attention_biases[:, self._numbers.flatten()].unflatten(1, (tokens, tokens))
        scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5 + bias
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, width: int, ratio: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, ratio * width), nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, window: int, side: int) -> None:
        super().__init__()
        self._window, self._side = window, side
        self.attn = _Attention(width, heads, window)
        self.mlp = _Mlp(width)
        self.local_conv = _NormedConv(width, width, 3, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, side, side) to the same."""
        x = self.local_conv(x + self._windowed(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        return x + self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def _windowed(self, x: Tensor) -> Tensor:
        side, window = self._side, self._window
        across = -(-side // window)
        missing = across * window - side
        x = F.pad(x, (0, 0, 0, missing, 0, missing)) if missing else x
        tiles = x.unflatten(2, (across, window)).unflatten(1, (across, window)).transpose(2, 3)
        tiles = self.attn(tiles.flatten(0, 2).flatten(1, 2)).unflatten(1, (window, window))
        whole = tiles.unflatten(0, (-1, across, across)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return whole[:, :side, :side]


class _Stage(nn.Module):
    def __init__(self, number: int, shape: TinyVitShape) -> None:
        super().__init__()
        last = len(shape.widths) - 1
        width, side = shape.widths[number], shape.image_size >> min(number, last - 1)
        blocks: list[nn.Module] = [
            _Block(width, shape.heads[number], shape.windows[number], side) if number else _Convolutions(width)
            for _ in range(shape.depths[number])
        ]
        self.blocks = nn.ModuleList(blocks)
        self.downsample = None
        if number < last:
            self.downsample = _Merging(width, shape.widths[number + 1], 2 if number < last - 1 else 1)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class TinyVit(nn.Module):
    """Pixels (n, 3, size, size) to embeddings (n, prompt_width, grid, grid)."""

    def __init__(self, shape: TinyVitShape) -> None:
        super().__init__()
        first = shape.widths[0]
        pixels = nn.Sequential(_NormedConv(3, first // 2), nn.GELU(), _NormedConv(first // 2, first))
        self.patch_embed = nn.ModuleDict({"seq": pixels})
        self.layers = nn.ModuleList(_Stage(number, shape) for number in range(len(shape.widths)))
        self.neck = nn.Sequential(
            nn.Conv2d(shape.widths[-1], shape.prompt_width, 1, bias=False),
            ChannelNorm(shape.prompt_width),
            nn.Conv2d(shape.prompt_width, shape.prompt_width, 3, padding=1, bias=False),
            ChannelNorm(shape.prompt_width),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_embed["seq"](pixels)
        for layer in self.layers:
            x = layer(x)
        return self.neck(x)


class LiteSam(nn.Module):
    """The whole model, as a checkpoint holds it."""

    def __init__(self, shape: TinyVitShape) -> None:
        super().__init__()
        prompts = SamShape(
            image_size=shape.image_size,
            patch=shape.image_size // shape.grid,
            prompt_width=shape.prompt_width,
            decoder_mlp=shape.decoder_mlp,
        )
        self.shape = prompts
        self.image_encoder = TinyVit(shape)
        self.prompt_encoder = PromptEncoder(prompts)
        self.mask_decoder = MaskDecoder(prompts)
