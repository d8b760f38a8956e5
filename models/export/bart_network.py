"""BART as torch modules with its released parameter names, the decoder with cached attention (Lewis et al. 2019,
arXiv 1910.13461)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.attention import attend, split_heads
from models.export.inner import inner
from models.export.report_decoder_network import Pair, WriterShape, causal_bias

_OFFSET = 2
"""BART's first position is number two of its table."""


class _Attention(nn.Module):
    def __init__(self, shape: WriterShape) -> None:
        super().__init__()
        self._heads = shape.heads
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(shape.width, shape.width) for _ in range(4))

    def pair(self, x: Tensor) -> Pair:
        """Keys and values of ``x``."""
        return split_heads(self.k_proj(x), self._heads), split_heads(self.v_proj(x), self._heads)

    def forward(self, x: Tensor, pair: Pair, bias: Tensor | None = None) -> Tensor:
        return self.out_proj(attend(split_heads(self.q_proj(x), self._heads), *pair, bias))


class _Layer(nn.Module):
    def __init__(self, shape: WriterShape, *, reads_image: bool) -> None:
        super().__init__()
        self.self_attn, self.self_attn_layer_norm = _Attention(shape), nn.LayerNorm(shape.width)
        if reads_image:
            self.encoder_attn, self.encoder_attn_layer_norm = _Attention(shape), nn.LayerNorm(shape.width)
        self.fc1, self.fc2 = nn.Linear(shape.width, shape.hidden), nn.Linear(shape.hidden, shape.width)
        self.final_layer_norm = nn.LayerNorm(shape.width)

    def wide(self, x: Tensor) -> Tensor:
        """The feed-forward part, added and normalised."""
        return self.final_layer_norm(x + self.fc2(F.gelu(self.fc1(x))))


class _Half(nn.Module):
    """Encoder or decoder: positions, norm, layers. Released files hold the shared embedding here, too."""

    def __init__(self, shape: WriterShape, shared: nn.Embedding, *, reads_image: bool) -> None:
        super().__init__()
        self.embed_tokens = shared
        self.embed_positions = nn.Embedding(shape.positions + _OFFSET, shape.width)
        self.layernorm_embedding = nn.LayerNorm(shape.width)
        self.layers = nn.ModuleList(_Layer(shape, reads_image=reads_image) for _ in range(shape.layers))

    def placed(self, x: Tensor, position_ids: Tensor) -> Tensor:
        """Embeddings with their positions, normalised."""
        return self.layernorm_embedding(x + self.embed_positions(position_ids + _OFFSET))


class Bart(nn.Module):
    """``language_model.*``: embeddings in, cross-attention keys out; tokens in, logits out."""

    def __init__(self, shape: WriterShape) -> None:
        super().__init__()
        self.shape = shape
        shared = nn.Embedding(shape.vocabulary, shape.width)
        self.model = nn.ModuleDict(
            {
                "shared": shared,
                "encoder": _Half(shape, shared, reads_image=False),
                "decoder": _Half(shape, shared, reads_image=True),
            }
        )
        self.lm_head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        self.lm_head.weight = shared.weight
        self.register_buffer("final_logits_bias", torch.zeros(1, shape.vocabulary))
        self.final_logits_bias: Tensor

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings of token ids."""
        return self.model["shared"](ids)

    def encode(self, inputs_embeds: Tensor) -> Tensor:
        """States of a prompt."""
        encoder = inner(self.model, "encoder")
        x = encoder.placed(inputs_embeds, torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device))
        for layer in encoder.layers:
            x = layer.self_attn_layer_norm(x + layer.self_attn(x, layer.self_attn.pair(x)))
            x = layer.wide(x)
        return x

    def cross_pairs(self, states: Tensor) -> Iterator[Pair]:
        """Keys and values of the prompt for each decoder layer."""
        for layer in inner(self.model, "decoder").layers:
            yield layer.encoder_attn.pair(states)

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, past: list[Pair], cross: list[Pair]
    ) -> tuple[Tensor, list[Pair]]:
        """Logits (batch, 1, vocabulary) after the last token, and the grown cache."""
        decoder = inner(self.model, "decoder")
        x = decoder.placed(self.embed(input_ids), position_ids)
        bias = causal_bias(position_ids, past[0][0].shape[2] + input_ids.shape[1])
        present = []
        for layer, before, image in zip(decoder.layers, past, cross, strict=True):
            new = layer.self_attn.pair(x)
            pair = torch.cat([before[0], new[0]], 2), torch.cat([before[1], new[1]], 2)
            present.append(pair)
            x = layer.self_attn_layer_norm(x + layer.self_attn(x, pair, bias))
            x = layer.encoder_attn_layer_norm(x + layer.encoder_attn(x, image))
            x = layer.wide(x)
        return self.lm_head(x[:, -1:]) + self.final_logits_bias, present


class PromptEncoder(nn.Module):
    """Embedded prompt to the cross-attention keys and values of every decoder layer."""

    def __init__(self, bart: Bart) -> None:
        super().__init__()
        self.bart = bart

    def forward(self, inputs_embeds: Tensor) -> tuple[Tensor, ...]:
        return tuple(part for pair in self.bart.cross_pairs(self.bart.encode(inputs_embeds)) for part in pair)
