"""SigLIP's tower at an image's own size: no fixed positions, turns by row and column instead (VideoLLaMA 3, arXiv
2501.13106, 2.1), with the released parameter names. Hulu-Med's tower is this one.

Rows and columns of patches are an input, so one graph serves every size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.attention import attend
from models.export.inner import inner
from models.export.rotary import UNSCALED, inverse_frequencies, turned


@dataclass(frozen=True, slots=True)
class NativeShape:
    """Sizes; those of SigLIP-so400m by default. ``patch`` in pixels."""

    width: int = 1152
    layers: int = 27
    heads: int = 16
    hidden: int = 4304
    patch: int = 14
    epsilon: float = 1e-6


class _PatchEmbedding(nn.Module):
    def __init__(self, shape: NativeShape) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(3, shape.width, shape.patch, stride=shape.patch)

    def forward(self, patches: Tensor) -> Tensor:
        return F.linear(patches, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias)


class _Attention(nn.Module):
    def __init__(self, shape: NativeShape) -> None:
        super().__init__()
        self._heads = shape.heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(shape.width, shape.width) for _ in range(4))

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        query, key, value = (
            part(x).unflatten(-1, (self._heads, -1)).transpose(0, 1)[None]
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(attend(turned(query, *angles), turned(key, *angles), value)[0])


class _Layer(nn.Module):
    def __init__(self, shape: NativeShape) -> None:
        super().__init__()
        self.self_attn = _Attention(shape)
        self.layer_norm1, self.layer_norm2 = (nn.LayerNorm(shape.width, eps=shape.epsilon) for _ in range(2))
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(shape.width, shape.hidden), "fc2": nn.Linear(shape.hidden, shape.width)}
        )

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), angles)
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.layer_norm2(x)), approximate="tanh"))


class NativeTower(nn.Module):
    """Flattened patches (patches, 3 × patch × patch) and their places (tokens, merged, 2) to states (patches, width)."""

    def __init__(self, shape: NativeShape) -> None:
        super().__init__()
        self.shape = shape
        self.embeddings = _PatchEmbedding(shape)
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(_Layer(shape) for _ in range(shape.layers))})
        self.post_layernorm = nn.LayerNorm(shape.width, eps=shape.epsilon)

    def forward(self, patches: Tensor, places: Tensor) -> Tensor:
        angles = self._angles(places.reshape(-1, 2))
        x = self.embeddings(patches)
        for layer in inner(self.encoder, "layers"):
            x = layer(x, angles)
        return self.post_layernorm(x)

    def _angles(self, places: Tensor) -> tuple[Tensor, Tensor]:
        size = self.shape.width // self.shape.heads
        turns = places[..., None].to(torch.float32) * inverse_frequencies(size // 2, 10000.0, UNSCALED)
        turns = turns.flatten(1)
        turns = torch.cat([turns, turns], -1)[None, None]
        return turns.cos(), turns.sin()


class NativeVision(nn.Module):
    """Patches and places to what a language model reads, (tokens, out).

    Patches that stand in one row of ``places`` are averaged into one token: with two rows and columns of patches that is
    the halving by bilinear interpolation that was published (``modeling_hulumed_encoder.py`` notes that they are equal).
    """

    def __init__(self, tower: NativeTower, out: int) -> None:
        super().__init__()
        self.vision_encoder = tower
        self.readout = nn.Sequential(nn.Linear(tower.shape.width, out), nn.GELU(), nn.Linear(out, out))

    def forward(self, pixel_values: Tensor, places: Tensor) -> Tensor:
        states = self.vision_encoder(pixel_values, places)
        return self.readout(states.reshape(places.shape[0], places.shape[1], self.vision_encoder.shape.width).mean(1))
