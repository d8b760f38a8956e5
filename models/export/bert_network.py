"""BERT's encoder as torch modules with the released parameter names (Devlin et al. 2019, arXiv 1810.04805)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class BertShape:
    """Sizes of a BERT, as its ``config.json`` states them.

    Attributes
    ----------
    first_position : int
        Position of the first token: RoBERTa's and its descendants' is the number of the padding token and one.
    global_projections : bool
        Whether each layer has a second set of projections, as Longformer's; they are loaded and not used.
    """

    vocabulary: int = 30522
    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    positions: int = 512
    types: int = 2
    epsilon: float = 1e-12
    first_position: int = 0
    global_projections: bool = False


class _Embeddings(nn.Module):
    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(shape.vocabulary, shape.width)
        self.position_embeddings = nn.Embedding(shape.positions, shape.width)
        self.token_type_embeddings = nn.Embedding(shape.types, shape.width)
        self.LayerNorm = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self._first = shape.first_position

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device) + self._first
        first_type = self.token_type_embeddings.weight[0]
        return self.LayerNorm(self.word_embeddings(ids) + self.position_embeddings(places) + first_type)


class _SelfAttention(nn.Module):
    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.query, self.key, self.value = (nn.Linear(shape.width, shape.width) for _ in range(3))
        if shape.global_projections:
            for name in ("query_global", "key_global", "value_global"):
                setattr(self, name, nn.Linear(shape.width, shape.width))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5 + bias
        return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


class _Residual(nn.Module):
    """A linear layer, added to what came in, normalised."""

    def __init__(self, inward: int, shape: BertShape) -> None:
        super().__init__()
        self.dense = nn.Linear(inward, shape.width)
        self.LayerNorm = nn.LayerNorm(shape.width, eps=shape.epsilon)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + before)


class _Layer(nn.Module):
    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"self": _SelfAttention(shape), "output": _Residual(shape.width, shape)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(shape.width, shape.hidden)})
        self.output = _Residual(shape.hidden, shape)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.attention["output"](self.attention["self"](x, bias), x)
        return self.output(F.gelu(self.intermediate["dense"](x)), x)


class Bert(nn.Module):
    """Token ids and mask (n, tokens; 1 for a token, 0 for padding) to the hidden states after each layer."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.embeddings = _Embeddings(shape)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(_Layer(shape) for _ in range(shape.layers))})

    def forward(self, ids: Tensor, mask: Tensor) -> list[Tensor]:
        bias = (1.0 - mask[:, None, None, :].to(torch.float32)) * torch.finfo(torch.float32).min
        states = [self.embeddings(ids)]
        layers = self.encoder["layer"]
        assert isinstance(layers, nn.ModuleList)
        for layer in layers:
            states.append(layer(states[-1], bias))
        return states
