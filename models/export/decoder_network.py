"""Language models with rotary positions as one torch module: Llama, Mistral, Qwen2, Qwen3, Gemma 3.

Masks, positions and the key/value cache are plain tensors that come in and go out, so that one graph serves the prompt
(an empty cache) and every step after it. Parameter names are the released ones below ``model.``; rotary positions after
Su et al. 2021 (arXiv 2104.09864), in the half-turned form the released weights are in; three-part positions after
Qwen2-VL (arXiv 2409.12191, 3.1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.rotary import UNSCALED, RotaryScaling, inverse_frequencies, turned


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """Sizes of a language model.

    Attributes
    ----------
    kv_heads : int
        Heads of keys and values, each shared by ``heads / kv_heads`` queries.
    query_bias, query_norm : bool
        Qwen2 has biases on queries, keys and values; Qwen3 and Gemma 3 normalise queries and keys.
    gemma : bool
        Norms multiply by one plus their weight, both sides of each part are normalised, embeddings are scaled.
    sliding : tuple of bool
        Which layers look at a window only (``mask_sliding``); they turn by ``local_theta``.
    query_scale : float or None
        What queries are multiplied with; None: head size to the power of -0.5.
    sections : tuple of int
        How many frequencies turn by time, row and column; empty: all by one position.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    hidden: int
    theta: float = 10000.0
    epsilon: float = 1e-6
    activation: Literal["silu", "gelu_tanh"] = "silu"
    query_bias: bool = False
    query_norm: bool = False
    gemma: bool = False
    sliding: tuple[bool, ...] = ()
    local_theta: float = 10000.0
    query_scale: float | None = None
    scaling: RotaryScaling = UNSCALED
    sections: tuple[int, ...] = ()

    @property
    def windowed(self) -> bool:
        """Whether any layer looks at a window only."""
        return any(self.sliding)


class RootMeanSquare(nn.Module):
    """Scale to unit root mean square, times the weight (times one plus it, for Gemma)."""

    def __init__(self, width: int, epsilon: float, *, plus_one: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width) if plus_one else torch.ones(width))
        self._epsilon, self._plus_one = epsilon, plus_one

    def forward(self, x: Tensor) -> Tensor:
        unit = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self._epsilon)
        return unit * ((1.0 + self.weight) if self._plus_one else self.weight)


class Attention(nn.Module):
    """Self-attention over cache and new tokens; queries that share keys are multiplied with them without copying."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self._shape = shape
        inner, shared = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
        self.q_proj = nn.Linear(shape.width, inner, bias=shape.query_bias)
        self.k_proj, self.v_proj = (nn.Linear(shape.width, shared, bias=shape.query_bias) for _ in range(2))
        self.o_proj = nn.Linear(inner, shape.width, bias=False)
        if shape.query_norm:
            self.q_norm, self.k_norm = (
                RootMeanSquare(shape.head_size, shape.epsilon, plus_one=shape.gemma) for _ in range(2)
            )

    def forward(
        self, x: Tensor, angles: tuple[Tensor, Tensor], mask: Tensor, past: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        shape = self._shape
        query, key, value = (
            part(x).unflatten(-1, (-1, shape.head_size)).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        if shape.query_norm:
            query, key = self.q_norm(query), self.k_norm(key)
        query, key = turned(query, *angles), turned(key, *angles)
        key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        scale = shape.head_size**-0.5 if shape.query_scale is None else shape.query_scale
        grouped = query.unflatten(1, (shape.kv_heads, shape.heads // shape.kv_heads)) * scale
        scores = grouped @ key.transpose(-2, -1).unsqueeze(2) + mask.unsqueeze(1)
        mixed = (scores.softmax(-1) @ value.unsqueeze(2)).flatten(1, 2)
        return self.o_proj(mixed.transpose(1, 2).flatten(2)), key, value


class FeedForward(nn.Module):
    """Gated feed-forward part."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self._tanh = shape.activation == "gelu_tanh"
        self.gate_proj, self.up_proj = (nn.Linear(shape.width, shape.hidden, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate_proj(x)
        gate = F.gelu(gate, approximate="tanh") if self._tanh else F.silu(gate)
        return self.down_proj(gate * self.up_proj(x))


class Layer(nn.Module):
    """Attention and feed-forward, each added to what came in."""

    input_layernorm: nn.Module
    post_attention_layernorm: nn.Module
    pre_feedforward_layernorm: nn.Module
    post_feedforward_layernorm: nn.Module

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self._gemma = shape.gemma
        self.self_attn, self.mlp = Attention(shape), FeedForward(shape)
        names = ["input_layernorm", "post_attention_layernorm"]
        if shape.gemma:
            names += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
        for name in names:
            self.add_module(name, RootMeanSquare(shape.width, shape.epsilon, plus_one=shape.gemma))

    def forward(
        self, x: Tensor, angles: tuple[Tensor, Tensor], mask: Tensor, past: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        seen, key, value = self.self_attn(self.input_layernorm(x), angles, mask, past)
        if self._gemma:
            x = x + self.post_attention_layernorm(seen)
            return x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x))), key, value
        x = x + seen
        return x + self.mlp(self.post_attention_layernorm(x)), key, value


class LanguageModel(nn.Module):
    """Embeddings and layers; ``lm_head`` beside them, also where the released weights tie the two."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RootMeanSquare(shape.width, shape.epsilon, plus_one=shape.gemma)
        self.lm_head = nn.Linear(shape.width, shape.vocabulary, bias=False)

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings of token ids, scaled where the model scales them."""
        embedded = self.embed_tokens(ids)
        return embedded * math.sqrt(self.shape.width) if self.shape.gemma else embedded

    def angles(self, position_ids: Tensor, *, local: bool = False) -> tuple[Tensor, Tensor]:
        """Cosine and sine (batch, 1, tokens, head size) of the turns at ``position_ids``."""
        shape = self.shape
        theta = shape.local_theta if local else shape.theta
        scaling = UNSCALED if local else shape.scaling
        frequencies = inverse_frequencies(shape.head_size, theta, scaling)
        turns = position_ids.unsqueeze(-1).to(torch.float32) * frequencies
        if shape.sections:
            parts = turns.split(list(shape.sections), dim=-1)
            turns = torch.cat([part[number] for number, part in enumerate(parts)], dim=-1)
        turns = torch.cat([turns, turns], dim=-1).unsqueeze(1)
        return turns.cos(), turns.sin()

    def forward(
        self, inputs_embeds: Tensor, position_ids: Tensor, mask: Tensor, mask_sliding: Tensor | None, *past: Tensor
    ) -> tuple[Tensor, ...]:
        """Logits (batch, 1, vocabulary) after the last token, and the grown cache."""
        shape, x = self.shape, inputs_embeds
        turns = {False: self.angles(position_ids)}
        if shape.windowed:
            turns[True] = self.angles(position_ids, local=True)
        present: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            local = bool(shape.sliding) and shape.sliding[number]
            seen = mask_sliding if local and mask_sliding is not None else mask
            x, key, value = layer(x, turns[local], seen, (past[2 * number], past[2 * number + 1]))
            present += [key, value]
        return (self.lm_head(self.norm(x[:, -1:])), *present)
