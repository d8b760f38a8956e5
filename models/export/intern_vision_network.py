"""InternViT as torch modules with the released parameter names (Chen et al. 2024, arXiv 2312.14238)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.attention import attend
from models.export.inner import inner


@dataclass(frozen=True, slots=True)
class InternShape:
    """Sizes; those of InternViT-300M-448px by default."""

    size: int = 448
    patch: int = 14
    width: int = 1024
    layers: int = 24
    heads: int = 16
    hidden: int = 4096
    epsilon: float = 1e-6


class _Embeddings(nn.Module):
    def __init__(self, shape: InternShape) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.position_embedding = nn.Parameter(torch.zeros(1, (shape.size // shape.patch) ** 2 + 1, shape.width))
        self.patch_embedding = nn.Conv2d(3, shape.width, shape.patch, stride=shape.patch)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        return torch.cat([self.class_embedding.expand(patches.shape[0], -1, -1), patches], 1) + self.position_embedding


class _Layer(nn.Module):
    def __init__(self, shape: InternShape) -> None:
        super().__init__()
        self._heads = shape.heads
        self.ls1, self.ls2 = (nn.Parameter(torch.ones(shape.width)) for _ in range(2))
        self.norm1, self.norm2 = (nn.LayerNorm(shape.width, eps=shape.epsilon) for _ in range(2))
        self.attn = nn.ModuleDict(
            {"qkv": nn.Linear(shape.width, 3 * shape.width), "proj": nn.Linear(shape.width, shape.width)}
        )
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(shape.width, shape.hidden), "fc2": nn.Linear(shape.hidden, shape.width)}
        )

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.attn["qkv"](self.norm1(x)).unflatten(-1, (3, self._heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.attn["proj"](attend(qkv[0], qkv[1], qkv[2])) * self.ls1
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x)))) * self.ls2


class InternVision(nn.Module):
    """Pixels (n, 3, size, size) to patch states (n, patches, width) without the class token."""

    def __init__(self, shape: InternShape) -> None:
        super().__init__()
        self.shape = shape
        self.embeddings = _Embeddings(shape)
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(_Layer(shape) for _ in range(shape.layers))})

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.embeddings(pixels)
        for layer in inner(self.encoder, "layers"):
            x = layer(x)
        return x[:, 1:]
