"""BERT and GPT-2 as report writers: cached self-attention, cross-attention to an image, the released parameter names.

BERT after Devlin et al. 2019 (arXiv 1810.04805), GPT-2 after Radford et al. 2019, both with the cross-attention of
transformers' ``VisionEncoderDecoderModel``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.attention import attend, split_heads
from models.export.inner import inner

NEVER = float(torch.finfo(torch.float32).min)

Pair = tuple[Tensor, Tensor]
"""Keys and values, (batch, heads, tokens, head size)."""


@dataclass(frozen=True, slots=True)
class WriterShape:
    """Sizes of a decoder."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    hidden: int
    positions: int
    types: int = 2
    epsilon: float = 1e-12


def causal_bias(position_ids: Tensor, total: int) -> Tensor:
    """(batch, 1, steps, total): a token looks at itself and those before it."""
    keys = torch.arange(total, device=position_ids.device)
    return torch.where(keys[None, None, None] <= position_ids[:, None, :, None], 0.0, NEVER)


class _BertAttention(nn.Module):
    """Attention with its output, added and normalised; the names are those of BERT's two halves."""

    def __init__(self, shape: WriterShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.self = nn.ModuleDict({name: nn.Linear(shape.width, shape.width) for name in ("query", "key", "value")})
        self.output = _bert_output(shape.width, shape)

    def pair(self, x: Tensor) -> Pair:
        """Keys and values of ``x``."""
        return split_heads(self.self["key"](x), self.heads), split_heads(self.self["value"](x), self.heads)

    def forward(self, x: Tensor, pair: Pair, bias: Tensor | None) -> Tensor:
        seen = attend(split_heads(self.self["query"](x), self.heads), *pair, bias)
        return self.output["LayerNorm"](self.output["dense"](seen) + x)


def _bert_output(inward: int, shape: WriterShape) -> nn.ModuleDict:
    return nn.ModuleDict(
        {"dense": nn.Linear(inward, shape.width), "LayerNorm": nn.LayerNorm(shape.width, eps=shape.epsilon)}
    )


class _BertLayer(nn.Module):
    def __init__(self, shape: WriterShape) -> None:
        super().__init__()
        self.attention, self.crossattention = _BertAttention(shape), _BertAttention(shape)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(shape.width, shape.hidden)})
        self.output = _bert_output(shape.hidden, shape)

    def forward(self, x: Tensor, past: Pair, cross: Pair, bias: Tensor) -> tuple[Tensor, Pair]:
        new = self.attention.pair(x)
        pair = torch.cat([past[0], new[0]], 2), torch.cat([past[1], new[1]], 2)
        x = self.crossattention(self.attention(x, pair, bias), cross, None)
        wide = F.gelu(self.intermediate["dense"](x))
        return self.output["LayerNorm"](self.output["dense"](wide) + x), pair


class BertWriter(nn.Module):
    """``decoder.*`` of a report generator whose decoder is ``BertLMHeadModel``."""

    def __init__(self, shape: WriterShape) -> None:
        super().__init__()
        self.shape = shape
        embeddings = {
            "word_embeddings": nn.Embedding(shape.vocabulary, shape.width),
            "position_embeddings": nn.Embedding(shape.positions, shape.width),
            "token_type_embeddings": nn.Embedding(shape.types, shape.width),
            "LayerNorm": nn.LayerNorm(shape.width, eps=shape.epsilon),
        }
        layers = nn.ModuleList(_BertLayer(shape) for _ in range(shape.layers))
        self.bert = nn.ModuleDict(
            {"embeddings": nn.ModuleDict(embeddings), "encoder": nn.ModuleDict({"layer": layers})}
        )
        transform = {
            "dense": nn.Linear(shape.width, shape.width),
            "LayerNorm": nn.LayerNorm(shape.width, eps=shape.epsilon),
        }
        self.cls = nn.ModuleDict({"predictions": _Predictions(nn.ModuleDict(transform), shape)})

    def cross_pairs(self, image: Tensor) -> Iterator[Pair]:
        """Keys and values of the image for each layer."""
        for layer in inner(self.bert, "encoder", "layer"):
            yield layer.crossattention.pair(image)

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, past: list[Pair], cross: list[Pair]
    ) -> tuple[Tensor, list[Pair]]:
        """Logits (batch, 1, vocabulary) after the last token, and the grown cache."""
        embeddings = inner(self.bert, "embeddings")
        x = embeddings["word_embeddings"](input_ids) + embeddings["token_type_embeddings"].weight[0]
        x = embeddings["LayerNorm"](x + embeddings["position_embeddings"](position_ids))
        bias = causal_bias(position_ids, past[0][0].shape[2] + input_ids.shape[1])
        present = []
        for layer, before, image in zip(inner(self.bert, "encoder", "layer"), past, cross, strict=True):
            x, pair = layer(x, before, image, bias)
            present.append(pair)
        return self.cls["predictions"](x[:, -1:]), present


class _Predictions(nn.Module):
    """The head; released files hold its bias twice."""

    def __init__(self, transform: nn.ModuleDict, shape: WriterShape) -> None:
        super().__init__()
        self.transform = transform
        self.decoder = nn.Linear(shape.width, shape.vocabulary)
        self.bias = self.decoder.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.transform["LayerNorm"](F.gelu(self.transform["dense"](x))))


class Turned(nn.Module):
    """A linear layer whose weight is stored (in, out), as GPT-2's are."""

    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(inward, outward))
        self.bias = nn.Parameter(torch.zeros(outward))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class _GptBlock(nn.Module):
    def __init__(self, shape: WriterShape) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.ln_1, self.ln_2, self.ln_cross_attn = (nn.LayerNorm(width, eps=shape.epsilon) for _ in range(3))
        self.attn = nn.ModuleDict({"c_attn": Turned(width, 3 * width), "c_proj": Turned(width, width)})
        self.crossattention = nn.ModuleDict(
            {"c_attn": Turned(width, 2 * width), "q_attn": Turned(width, width), "c_proj": Turned(width, width)}
        )
        self.mlp = nn.ModuleDict({"c_fc": Turned(width, shape.hidden), "c_proj": Turned(shape.hidden, width)})

    def cross_pair(self, image: Tensor) -> Pair:
        """Keys and values of the image."""
        key, value = self.crossattention["c_attn"](image).chunk(2, -1)
        return split_heads(key, self.heads), split_heads(value, self.heads)

    def forward(self, x: Tensor, past: Pair, cross: Pair, bias: Tensor) -> tuple[Tensor, Pair]:
        query, key, value = (split_heads(part, self.heads) for part in self.attn["c_attn"](self.ln_1(x)).chunk(3, -1))
        pair = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        x = x + self.attn["c_proj"](attend(query, *pair, bias))
        query = split_heads(self.crossattention["q_attn"](self.ln_cross_attn(x)), self.heads)
        x = x + self.crossattention["c_proj"](attend(query, *cross))
        wide = F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh")
        return x + self.mlp["c_proj"](wide), pair


class GptWriter(nn.Module):
    """``decoder.*`` of a report generator whose decoder is ``GPT2LMHeadModel``."""

    def __init__(self, shape: WriterShape) -> None:
        super().__init__()
        self.shape = shape
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(shape.vocabulary, shape.width),
                "wpe": nn.Embedding(shape.positions, shape.width),
                "h": nn.ModuleList(_GptBlock(shape) for _ in range(shape.layers)),
                "ln_f": nn.LayerNorm(shape.width, eps=shape.epsilon),
            }
        )
        self.lm_head = nn.Linear(shape.width, shape.vocabulary, bias=False)

    def cross_pairs(self, image: Tensor) -> Iterator[Pair]:
        """Keys and values of the image for each layer."""
        for block in inner(self.transformer, "h"):
            yield block.cross_pair(image)

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, past: list[Pair], cross: list[Pair]
    ) -> tuple[Tensor, list[Pair]]:
        """Logits (batch, 1, vocabulary) after the last token, and the grown cache."""
        x = self.transformer["wte"](input_ids) + self.transformer["wpe"](position_ids)
        bias = causal_bias(position_ids, past[0][0].shape[2] + input_ids.shape[1])
        present = []
        for block, before, image in zip(inner(self.transformer, "h"), past, cross, strict=True):
            x, pair = block(x, before, image, bias)
            present.append(pair)
        return self.lm_head(self.transformer["ln_f"](x[:, -1:])), present
