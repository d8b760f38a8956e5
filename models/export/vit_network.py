"""Vision transformers and text transformers of the CLIP family as torch modules.

Pre-normalised blocks (Dosovitskiy et al. 2021, arXiv 2010.11929; Radford et al. 2021, arXiv 2103.00020; Zhai et al. 2023,
arXiv 2303.15343). Published checkpoints differ in names and in a few switches, not in what is computed: names stand in
:mod:`models.export.vit_layouts`, switches in :class:`VitShape` and :class:`TextShape`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Gelu = Literal["exact", "tanh", "quick"]


@dataclass(frozen=True, slots=True)
class VitShape:
    """An image tower.

    Attributes
    ----------
    size, patch, width, depth, heads, hidden : int
        Image side and patch side in pixels, channels, blocks, attention heads, channels inside a block's MLP.
    joint : int
        Length of the embedding; 0: the pooled vector is the embedding.
    class_token : bool
        Whether a class token leads; its output is then the pooled vector, otherwise attention pooling makes it.
    patch_bias, pre_norm : bool
        Bias of the patch embedding; normalisation before the first block.
    """

    size: int = 224
    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    joint: int = 512
    class_token: bool = True
    patch_bias: bool = True
    pre_norm: bool = False
    gelu: Gelu = "exact"
    epsilon: float = 1e-6

    @property
    def grid(self) -> int:
        """Patches along each side."""
        return self.size // self.patch


@dataclass(frozen=True, slots=True)
class TextShape:
    """A text tower: ``pooled`` at the end-of-text token under a causal mask, or at the last of all tokens, which all see."""

    vocabulary: int = 49408
    positions: int = 77
    width: int = 512
    depth: int = 12
    heads: int = 8
    hidden: int = 2048
    joint: int = 512
    pooled: Literal["end", "last"] = "end"
    gelu: Gelu = "quick"
    epsilon: float = 1e-5
    projection_bias: bool = False


def activation(x: Tensor, gelu: Gelu) -> Tensor:
    """GELU, its tanh approximation, or x · sigmoid(1.702 x)."""
    if gelu == "quick":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="tanh" if gelu == "tanh" else "none")


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        q, k, v = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in self.qkv(x).chunk(3, -1))
        return self.proj(_attend(q, k, v, bias).transpose(1, 2).flatten(2))


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
    return (scores if bias is None else scores + bias).softmax(-1) @ v


class Mlp(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, width: int, hidden: int, gelu: Gelu) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self._gelu: Gelu = gelu

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(activation(self.fc1(x), self._gelu))


class Block(nn.Module):
    """Attention and MLP, each normalised before and added to what came in."""

    def __init__(self, width: int, heads: int, hidden: int, gelu: Gelu, epsilon: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=epsilon), nn.LayerNorm(width, eps=epsilon)
        self.attn = _Attention(width, heads)
        self.mlp = Mlp(width, hidden, gelu)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        x = x + self.attn(self.norm1(x), bias)
        return x + self.mlp(self.norm2(x))


class AttentionPool(nn.Module):
    """One learnt query over all patches, then an MLP beside it."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.probe = nn.Parameter(torch.zeros(1, 1, width))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=shape.epsilon)
        self.mlp = Mlp(width, shape.hidden, shape.gelu)

    def forward(self, x: Tensor) -> Tensor:
        width = x.shape[-1]
        weights, biases = self.qkv.weight, self.qkv.bias
        query = F.linear(self.probe, weights[:width], biases[:width]).expand(x.shape[0], -1, -1)
        keys, values = F.linear(x, weights[width:], biases[width:]).chunk(2, -1)
        q, k, v = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (query, keys, values))
        pooled = self.proj(_attend(q, k, v, None).transpose(1, 2).flatten(2))
        return (pooled + self.mlp(self.norm(pooled)))[:, 0]


class Vit(nn.Module):
    """Images (n, 3, size, size) to the embedding (n, joint) and those of the patches (n, joint, grid, grid).

    Neither is normalised. Patches go through the same last normalisation and projection as the pooled vector where a class
    token pools; where attention does, its values and projection stand for them.
    """

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.shape = shape
        width, tokens = shape.width, shape.grid**2 + int(shape.class_token)
        self.patch_embed = nn.Conv2d(3, width, shape.patch, shape.patch, bias=shape.patch_bias)
        if shape.class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
        if shape.pre_norm:
            self.norm_pre = nn.LayerNorm(width, eps=shape.epsilon)
        self.blocks = nn.ModuleList(
            Block(width, shape.heads, shape.hidden, shape.gelu, shape.epsilon) for _ in range(shape.depth)
        )
        self.norm = nn.LayerNorm(width, eps=shape.epsilon)
        if not shape.class_token:
            self.pool = AttentionPool(shape)
        if shape.joint:
            self.head = nn.Linear(width, shape.joint, bias=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.patch_embed(images).flatten(2).transpose(1, 2)
        if self.shape.class_token:
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], 1)
        x = x + self.pos_embed
        if self.shape.pre_norm:
            x = self.norm_pre(x)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        pooled, patches = (x[:, 0], x[:, 1:]) if self.shape.class_token else (self.pool(x), x)
        if self.shape.joint:
            pooled, patches = self.head(pooled), self.head(patches)
        grid = self.shape.grid
        return pooled, patches.transpose(1, 2).unflatten(-1, (grid, grid))


class TextTransformer(nn.Module):
    """Token ids (n, positions) to the embedding (n, joint), not normalised.

    With ``pooled = "end"`` the largest id is the end of text, as in CLIP's vocabulary.
    """

    def __init__(self, shape: TextShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width
        self.token_embedding = nn.Embedding(shape.vocabulary, width)
        self.pos_embed = nn.Parameter(torch.zeros(shape.positions, width))
        self.blocks = nn.ModuleList(
            Block(width, shape.heads, shape.hidden, shape.gelu, shape.epsilon) for _ in range(shape.depth)
        )
        self.norm = nn.LayerNorm(width, eps=shape.epsilon)
        self.head = nn.Linear(width, shape.joint, bias=shape.projection_bias)

    def forward(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        x = self.token_embedding(ids) + self.pos_embed[:length]
        bias = None
        if self.shape.pooled == "end":
            bias = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)
        for block in self.blocks:
            x = block(x, bias)
        x = self.norm(x)
        last = ids.argmax(-1) if self.shape.pooled == "end" else torch.full((ids.shape[0],), length - 1)
        return self.head(x[torch.arange(ids.shape[0]), last])
