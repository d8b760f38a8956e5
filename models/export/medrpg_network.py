"""MedRPG as torch modules with the released parameter names (Chen et al. 2023, arXiv 2303.07618).

A TransVG (Deng et al. 2021, arXiv 2104.08541): DETR's ResNet50 and encoder for the image, BERT for the phrase, one more
encoder over both and a token that asks for the box.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.attention import attend, split_heads
from models.export.bert_network import BertShape
from models.export.clinical_bert import PooledBert
from models.export.inner import inner
from models.export.resnet_network import ResNet

WORDS = 20
"""Tokens of a phrase, those of its ends among them."""
STRIDE = 32


@dataclass(frozen=True, slots=True)
class GrounderShape:
    """Sizes; ``hidden`` and ``layers`` of the image's encoder and of the fusing one, ``side`` of the grid of places."""

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    first: int = 64
    width: int = 256
    heads: int = 8
    image: tuple[int, int] = (2048, 6)
    fusion: tuple[int, int] = (2048, 6)
    side: int = 20
    text: BertShape = field(default_factory=BertShape)


class _Attention(nn.Module):
    """``nn.MultiheadAttention`` with its packed weights; queries and keys carry positions, values do not."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, placed: Tensor, x: Tensor, bias: Tensor) -> Tensor:
        width = x.shape[-1]
        query, key = F.linear(placed, self.in_proj_weight[: 2 * width], self.in_proj_bias[: 2 * width]).chunk(2, -1)
        value = F.linear(x, self.in_proj_weight[2 * width :], self.in_proj_bias[2 * width :])
        query, key, value = (split_heads(part, self.heads) for part in (query, key, value))
        return self.out_proj(attend(query, key, value, bias))


class _Layer(nn.Module):
    """An encoder layer that normalises after each part."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = _Attention(width, heads)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, positions: Tensor, bias: Tensor) -> Tensor:
        x = self.norm1(x + self.self_attn(x + positions, x, bias))
        return self.norm2(x + self.linear2(F.relu(self.linear1(x))))


def _encoder(shape: GrounderShape, hidden: int, layers: int) -> nn.ModuleDict:
    stack = nn.ModuleList(_Layer(shape.width, shape.heads, hidden) for _ in range(layers))
    return nn.ModuleDict({"encoder": nn.ModuleDict({"layers": stack})})


class _FrozenNorm(nn.Module):
    """Batch normalisation by kept statistics, with no count of batches, as DETR's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        mean, spread, scale, shift = (getattr(self, name) for name in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, spread, scale, shift)


def _frozen(network: ResNet) -> ResNet:
    """Without classifier, every normalisation a frozen one."""
    del network.fc
    for module in list(network.modules()):
        for name, part in list(module.named_children()):
            if isinstance(part, nn.BatchNorm2d):
                setattr(module, name, _FrozenNorm(part.num_features))
    return network


class Grounder(nn.Module):
    """Image and phrases to one box each."""

    def __init__(self, shape: GrounderShape) -> None:
        super().__init__()
        self.shape = shape
        features = shape.first << (len(shape.blocks) + 1)
        body = nn.ModuleDict({"body": _frozen(ResNet(shape.blocks, shape.first, 1))})
        self.visumodel = nn.ModuleDict(
            {
                "backbone": nn.ModuleList([body]),
                "transformer": _encoder(shape, *shape.image),
                "input_proj": nn.Conv2d(features, shape.width, 1),
            }
        )
        self.textmodel = nn.ModuleDict({"bert": PooledBert(shape.text)})
        self.vl_pos_embed = nn.Embedding(1 + WORDS + shape.side**2, shape.width)
        self.reg_token = nn.Embedding(1, shape.width)
        self.visu_proj = nn.Linear(shape.width, shape.width)
        self.text_proj = nn.Linear(shape.text.width, shape.width)
        self.vl_transformer = _encoder(shape, *shape.fusion)
        sizes = (shape.width, shape.width, shape.width, 4)
        layers = nn.ModuleList(nn.Linear(inward, outward) for inward, outward in pairwise(sizes))
        self.bbox_embed = nn.ModuleDict({"layers": layers})

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Phrases (n, tokens) to what the fusing encoder sees of them: (n, tokens, width)."""
        return self.text_proj(self.textmodel["bert"](ids, mask)[-1])

    def look(self, image: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """Image (1, 3, size, size) and padding (1, size, size) to places (1, places, width) and which of them are padding."""
        features = inner(self.visumodel, "backbone")[0]["body"](image)
        # What ``interpolate`` takes without a mode: the first of each square of pixels.
        empty = padding[:, ::STRIDE, ::STRIDE]
        x = self.visumodel["input_proj"](features).flatten(2).transpose(1, 2)
        positions, bias = sine_positions(1 - empty, self.shape.width), _never(empty.flatten(1))
        for layer in inner(self.visumodel, "transformer", "encoder", "layers"):
            x = layer(x, positions, bias)
        return self.visu_proj(x), empty.flatten(1)

    def ground(self, image: Tensor, padding: Tensor, text: Tensor, unused: Tensor) -> Tensor:
        """Boxes (n, 4): centre, width and height in shares of the square, for phrases as :meth:`read` gives them.

        ``unused`` (n, tokens) is 1 where a phrase has no token.
        """
        places, empty = self.look(image, padding)
        count = text.shape[0]
        asked = self.reg_token.weight[None].expand(count, -1, -1)
        x = torch.cat([asked, text, places.expand(count, -1, -1)], 1)
        bias = _never(torch.cat([torch.zeros_like(unused[:, :1]), unused, empty.expand(count, -1)], 1))
        for layer in inner(self.vl_transformer, "encoder", "layers"):
            x = layer(x, self.vl_pos_embed.weight[None], bias)
        box = x[:, 0]
        first, second, last = inner(self.bbox_embed, "layers")
        return last(F.relu(second(F.relu(first(box))))).sigmoid()


def _never(unseen: Tensor) -> Tensor:
    """(n, tokens) with 1 for what is not to be looked at, as what is added to the scores."""
    return (unseen * torch.finfo(torch.float32).min)[:, None, None]


def sine_positions(seen: Tensor, width: int) -> Tensor:
    """DETR's positions (1, places, width) of a grid (1, rows, columns) of ones and, where there is padding, zeros."""
    each = width // 2
    places = []
    for axis in (1, 2):
        counted = seen.cumsum(axis)
        last = counted[:, -1:] if axis == 1 else counted[:, :, -1:]
        angle = counted / (last + 1e-6) * (2 * math.pi)
        waves = 10000.0 ** (2 * torch.div(torch.arange(each), 2, rounding_mode="floor") / each)
        turned = angle[..., None] / waves
        places.append(torch.stack([turned[..., 0::2].sin(), turned[..., 1::2].cos()], -1).flatten(3))
    return torch.cat(places, -1).flatten(1, 2)
