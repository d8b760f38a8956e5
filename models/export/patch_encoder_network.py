"""The vision towers of CLIP and SigLIP as one torch module with their released parameter names (Radford et al. 2021,
arXiv 2103.00020; Zhai et al. 2023, arXiv 2303.15343)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.attention import attend, split_heads
from models.export.inner import inner


@dataclass(frozen=True, slots=True)
class PatchEncoderShape:
    """Sizes; ``size`` and ``patch`` in pixels.

    Attributes
    ----------
    clip : bool
        With a class token, a norm before the layers and no bias on patches; SigLIP has none of these.
    layers_run : int
        How many layers are run: LLaVA reads the last but one.
    """

    size: int = 336
    patch: int = 14
    width: int = 1024
    layers: int = 24
    heads: int = 16
    hidden: int = 4096
    epsilon: float = 1e-5
    activation: Literal["quick_gelu", "gelu_tanh"] = "quick_gelu"
    clip: bool = True
    layers_run: int = 23

    @property
    def patches(self) -> int:
        """Patches of an image."""
        return (self.size // self.patch) ** 2


class _Embeddings(nn.Module):
    def __init__(self, shape: PatchEncoderShape) -> None:
        super().__init__()
        if shape.clip:
            self.class_embedding = nn.Parameter(torch.zeros(shape.width))
        self.patch_embedding = nn.Conv2d(3, shape.width, shape.patch, stride=shape.patch, bias=not shape.clip)
        self.position_embedding = nn.Embedding(shape.patches + shape.clip, shape.width)
        self._clip = shape.clip

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        if self._clip:
            x = torch.cat([self.class_embedding.expand(x.shape[0], 1, -1), x], 1)
        return x + self.position_embedding.weight


class _Attention(nn.Module):
    def __init__(self, shape: PatchEncoderShape) -> None:
        super().__init__()
        self._heads = shape.heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(shape.width, shape.width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (split_heads(part(x), self._heads) for part in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(attend(query, key, value))


class _Layer(nn.Module):
    def __init__(self, shape: PatchEncoderShape) -> None:
        super().__init__()
        self._quick = shape.activation == "quick_gelu"
        self.self_attn = _Attention(shape)
        self.layer_norm1, self.layer_norm2 = (nn.LayerNorm(shape.width, eps=shape.epsilon) for _ in range(2))
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(shape.width, shape.hidden), "fc2": nn.Linear(shape.hidden, shape.width)}
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        wide = self.mlp["fc1"](self.layer_norm2(x))
        wide = wide * torch.sigmoid(1.702 * wide) if self._quick else F.gelu(wide, approximate="tanh")
        return x + self.mlp["fc2"](wide)


class PatchEncoder(nn.Module):
    """Pixels (n, 3, size, size) to patch states (n, patches, width): without the class token and its last norm for CLIP,
    normalised for SigLIP."""

    def __init__(self, shape: PatchEncoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.embeddings = _Embeddings(shape)
        if shape.clip:
            self.pre_layrnorm = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(_Layer(shape) for _ in range(shape.layers))})
        self.post_layernorm = nn.LayerNorm(shape.width, eps=shape.epsilon)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.embeddings(pixels)
        if self.shape.clip:
            x = self.pre_layrnorm(x)
        for layer in list(inner(self.encoder, "layers"))[: self.shape.layers_run]:
            x = layer(x)
        return x[:, 1:] if self.shape.clip else self.post_layernorm(x)
