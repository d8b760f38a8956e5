"""GPT-NeoX with an explicit cache as one torch module with its released parameter names (Black et al. 2022, arXiv
2204.06745; Pythia)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.attention import attend
from models.export.rotary import UNSCALED, inverse_frequencies, turned


@dataclass(frozen=True, slots=True)
class NeoxShape:
    """Sizes; ``turned`` channels of each head carry positions. The last four name what every decoder has."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    hidden: int
    turned: int
    theta: float = 10000.0
    epsilon: float = 1e-5
    sections: tuple[int, ...] = ()

    @property
    def kv_heads(self) -> int:
        """Every head has keys of its own."""
        return self.heads

    @property
    def head_size(self) -> int:
        """Channels of a head."""
        return self.width // self.heads

    @property
    def windowed(self) -> bool:
        """No layer looks at a window only."""
        return False


class _Layer(nn.Module):
    """Attention and feed-forward beside each other, both added."""

    def __init__(self, shape: NeoxShape) -> None:
        super().__init__()
        self._shape = shape
        self.input_layernorm, self.post_attention_layernorm = (
            nn.LayerNorm(shape.width, eps=shape.epsilon) for _ in range(2)
        )
        self.attention = nn.ModuleDict(
            {"query_key_value": nn.Linear(shape.width, 3 * shape.width), "dense": nn.Linear(shape.width, shape.width)}
        )
        self.mlp = nn.ModuleDict(
            {
                "dense_h_to_4h": nn.Linear(shape.width, shape.hidden),
                "dense_4h_to_h": nn.Linear(shape.hidden, shape.width),
            }
        )

    def forward(
        self, x: Tensor, angles: tuple[Tensor, Tensor], mask: Tensor, past: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        qkv = self.attention["query_key_value"](self.input_layernorm(x)).unflatten(-1, (self._shape.heads, -1))
        query, key, value = qkv.transpose(1, 2).chunk(3, -1)
        few = self._shape.turned
        query, key = (torch.cat([turned(part[..., :few], *angles), part[..., few:]], -1) for part in (query, key))
        key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        seen = self.attention["dense"](attend(query, key, value, mask))
        wide = F.gelu(self.mlp["dense_h_to_4h"](self.post_attention_layernorm(x)))
        return x + seen + self.mlp["dense_4h_to_h"](wide), key, value


class NeoxModel(nn.Module):
    """Embeddings, layers and the head (``embed_out``)."""

    def __init__(self, shape: NeoxShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_in = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.layers))
        self.final_layer_norm = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self.embed_out = nn.Linear(shape.width, shape.vocabulary, bias=False)

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings of token ids."""
        return self.embed_in(ids)

    def forward(
        self, inputs_embeds: Tensor, position_ids: Tensor, mask: Tensor, mask_sliding: Tensor | None, *past: Tensor
    ) -> tuple[Tensor, ...]:
        """Logits (batch, 1, vocabulary) after the last token, and the grown cache."""
        frequencies = inverse_frequencies(self.shape.turned, self.shape.theta, UNSCALED)
        turns = position_ids.unsqueeze(-1).to(torch.float32) * frequencies
        turns = torch.cat([turns, turns], -1).unsqueeze(1)
        angles, x = (turns.cos(), turns.sin()), inputs_embeds
        present: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            x, key, value = layer(x, angles, mask, (past[2 * number], past[2 * number + 1]))
            present += [key, value]
        return (self.embed_out(self.final_layer_norm(x[:, -1:])), *present)
