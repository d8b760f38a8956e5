"""The vision transformer as torch modules with the parameter names of transformers' ViT (Dosovitskiy et al. 2021,
arXiv 2010.11929)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.attention import attend, split_heads
from models.export.inner import inner


@dataclass(frozen=True, slots=True)
class VitShape:
    """Sizes of a vision transformer; ``size`` and ``patch`` in pixels."""

    size: int = 224
    patch: int = 16
    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    epsilon: float = 1e-12
    pooler: bool = True


class _Embeddings(nn.Module):
    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.position_embeddings = nn.Parameter(torch.zeros(1, (shape.size // shape.patch) ** 2 + 1, shape.width))
        self.patch_embeddings = nn.ModuleDict(
            {"projection": nn.Conv2d(3, shape.width, shape.patch, stride=shape.patch)}
        )

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embeddings["projection"](pixels).flatten(2).transpose(1, 2)
        first = self.cls_token.expand(patches.shape[0], -1, -1)
        return torch.cat([first, patches], 1) + self.position_embeddings


class _SelfAttention(nn.Module):
    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.query, self.key, self.value = (nn.Linear(shape.width, shape.width) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (split_heads(part(x), self.heads) for part in (self.query, self.key, self.value))
        return attend(query, key, value)


def _dense(inward: int, outward: int) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(inward, outward)})


class _Layer(nn.Module):
    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"attention": _SelfAttention(shape), "output": _dense(shape.width, shape.width)})
        self.intermediate = _dense(shape.width, shape.hidden)
        self.output = _dense(shape.hidden, shape.width)
        self.layernorm_before, self.layernorm_after = (nn.LayerNorm(shape.width, eps=shape.epsilon) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + inner(self.attention, "output", "dense")(self.attention["attention"](self.layernorm_before(x)))
        return x + self.output["dense"](F.gelu(self.intermediate["dense"](self.layernorm_after(x))))


class VisionTransformer(nn.Module):
    """Pixels (n, 3, size, size) to the states of all patches, the class token first, normalised."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.embeddings = _Embeddings(shape)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(_Layer(shape) for _ in range(shape.layers))})
        self.layernorm = nn.LayerNorm(shape.width, eps=shape.epsilon)
        if shape.pooler:
            # Released files hold it; a decoder never reads it.
            self.pooler = _dense(shape.width, shape.width)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.embeddings(pixels)
        for layer in inner(self.encoder, "layer"):
            x = layer(x)
        return self.layernorm(x)
