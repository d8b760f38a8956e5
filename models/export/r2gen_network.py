"""R2Gen and R2GenCMN as torch modules with the released parameter names.

A ResNet's places go through a transformer encoder; a transformer decoder writes. In R2Gen a relational memory, fed with
each word, steers the decoder's normalisations (Chen et al. 2020, EMNLP, arXiv 2010.16056); in R2GenCMN places and words
ask one matrix of learnt rows and add what the best of them answer (Chen et al. 2021, ACL, arXiv 2204.13258).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.attention import attend, split_heads
from models.export.inner import inner
from models.export.report_decoder_network import Pair, causal_bias
from models.export.resnet_network import ResNet

_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class ReportShape:
    """Sizes of a report generator.

    Attributes
    ----------
    vocabulary : int
        Words and token 0, which starts, ends and pads.
    features, first : int
        Channels of the ResNet's last and first stage's input.
    slots, memory_heads : int
        Of the relational memory.
    rows, best : int
        Of the matrix of learnt rows; 0: there is none. ``best`` of them answer.
    """

    vocabulary: int = 4336
    width: int = 512
    layers: int = 3
    heads: int = 8
    hidden: int = 512
    places: int = 5000
    blocks: tuple[int, ...] = (3, 4, 23, 3)
    first: int = 64
    slots: int = 3
    memory_heads: int = 8
    rows: int = 0
    best: int = 32

    @property
    def features(self) -> int:
        """Channels of the ResNet's output."""
        return self.first << (len(self.blocks) + 1)

    @property
    def norm_names(self) -> tuple[str, str]:
        """Published names of a normalisation's scale and shift."""
        return ("a_2", "b_2") if self.rows else ("gamma", "beta")


class Norm(nn.Module):
    """Mean 0, deviation (by n − 1) 1, scale and shift; what is added to the deviation keeps it from 0."""

    def __init__(self, shape: ReportShape) -> None:
        super().__init__()
        self._names = shape.norm_names
        for name, value in zip(self._names, (1.0, 0.0), strict=True):
            self.register_parameter(name, nn.Parameter(torch.full((shape.width,), value)))

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        away = x - x.mean(-1, keepdim=True)
        deviation = (away.square().sum(-1, keepdim=True) / (x.shape[-1] - 1)).sqrt()
        scale, shift = self.steered(memory)
        return scale * away / (deviation + _EPSILON) + shift

    def steered(self, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scale and shift."""
        scale, shift = (getattr(self, name) for name in self._names)
        return scale, shift


class SteeredNorm(Norm):
    """Scale and shift moved by the relational memory (batch, slots × width)."""

    def __init__(self, shape: ReportShape) -> None:
        super().__init__(shape)
        self.mlp_gamma, self.mlp_beta = (
            nn.Sequential(
                nn.Linear(shape.slots * shape.width, shape.width), nn.ReLU(), nn.Linear(shape.width, shape.width)
            )
            for _ in range(2)
        )

    def steered(self, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        assert memory is not None
        scale, shift = super().steered(None)
        return scale + self.mlp_gamma(memory)[:, None], shift + self.mlp_beta(memory)[:, None]


class Attention(nn.Module):
    """Attention over heads; ``linears`` are those of query, key, value and output."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.linears = nn.ModuleList(nn.Linear(width, width) for _ in range(4))

    def pair(self, x: Tensor) -> Pair:
        """Keys and values of ``x``."""
        return split_heads(self.linears[1](x), self.heads), split_heads(self.linears[2](x), self.heads)

    def query(self, x: Tensor) -> Tensor:
        """Queries of ``x``."""
        return split_heads(self.linears[0](x), self.heads)

    def forward(self, x: Tensor, pair: Pair, bias: Tensor | None = None) -> Tensor:
        return self.linears[3](attend(self.query(x), *pair, bias))


class LearntRows(Attention):
    """What the best rows of a matrix (rows, width) answer to each token, for each head by itself."""

    def __init__(self, shape: ReportShape) -> None:
        super().__init__(shape.width, shape.heads)
        self._best = shape.best

    def answer(self, x: Tensor, rows: Tensor) -> Tensor:
        """Tokens (batch, tokens, width) to as many answers."""
        query, (key, value) = self.query(x), self.pair(rows[None])
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        least = scores.topk(self._best, dim=-1).values[..., -1:]
        weights = scores.masked_fill(scores < least, float("-inf")).softmax(-1)
        return self.linears[3]((weights @ value).transpose(1, 2).flatten(2))


class _Layer(nn.Module):
    """One layer of the encoder or, with attention to the image, of the decoder; normalised before each part."""

    def __init__(self, shape: ReportShape, *, reads: bool) -> None:
        super().__init__()
        self.self_attn = Attention(shape.width, shape.heads)
        if reads:
            self.src_attn = Attention(shape.width, shape.heads)
        self.feed_forward = nn.ModuleDict(
            {"w_1": nn.Linear(shape.width, shape.hidden), "w_2": nn.Linear(shape.hidden, shape.width)}
        )
        kind = SteeredNorm if reads and not shape.rows else Norm
        self.sublayer = nn.ModuleList(nn.ModuleDict({"norm": kind(shape)}) for _ in range(3 if reads else 2))

    def norm(self, number: int, x: Tensor, memory: Tensor | None = None) -> Tensor:
        part = self.sublayer[number]
        assert isinstance(part, nn.ModuleDict)
        return part["norm"](x, memory)

    def wide(self, x: Tensor) -> Tensor:
        return self.feed_forward["w_2"](F.relu(self.feed_forward["w_1"](x)))

    def encode(self, x: Tensor) -> Tensor:
        """The encoder's: all places see each other."""
        seen = self.norm(0, x)
        x = x + self.self_attn(seen, self.self_attn.pair(seen))
        return x + self.wide(self.norm(1, x))

    def decode(self, x: Tensor, past: Pair, cross: Pair, bias: Tensor, memory: Tensor | None) -> tuple[Tensor, Pair]:
        """The decoder's, with the cache it leaves."""
        seen = self.norm(0, x, memory)
        new = self.self_attn.pair(seen)
        pair = torch.cat([past[0], new[0]], 2), torch.cat([past[1], new[1]], 2)
        x = x + self.self_attn(seen, pair, bias)
        x = x + self.src_attn(self.norm(1, x, memory), cross)
        return x + self.wide(self.norm(2, x, memory)), pair


class _Stack(nn.Module):
    def __init__(self, shape: ReportShape, *, reads: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(shape, reads=reads) for _ in range(shape.layers))
        self.norm = Norm(shape)


class _Words(nn.Module):
    def __init__(self, shape: ReportShape) -> None:
        super().__init__()
        self.lut = nn.Embedding(shape.vocabulary, shape.width)

    def forward(self, ids: Tensor) -> Tensor:
        return self.lut(ids) * self.lut.embedding_dim**0.5


class _Places(nn.Module):
    """Sine positions (1, places, width); released files hold them."""

    def __init__(self, shape: ReportShape) -> None:
        super().__init__()
        self.register_buffer("pe", torch.zeros(1, shape.places, shape.width))


class RelationalMemory(nn.Module):
    """Slots (batch, slots × width) that take in one word's embedding (batch, width) after the other."""

    def __init__(self, shape: ReportShape) -> None:
        super().__init__()
        width = shape.width
        self.attn = Attention(width, shape.memory_heads)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.W, self.U = nn.Linear(width, 2 * width), nn.Linear(width, 2 * width)
        self._slots = shape.slots

    def forward(self, word: Tensor, memory: Tensor) -> Tensor:
        slots = memory.unflatten(-1, (self._slots, -1))
        new = slots + self.attn(slots, self.attn.pair(torch.cat([slots, word[:, None]], 1)))
        new = new + self.mlp(new)
        take, keep = (self.W(word[:, None]) + self.U(slots.tanh())).sigmoid().chunk(2, -1)
        return (take * new.tanh() + keep * slots).flatten(1)


class _Transformer(nn.Module):
    def __init__(self, shape: ReportShape) -> None:
        super().__init__()
        self.encoder, self.decoder = _Stack(shape, reads=False), _Stack(shape, reads=True)
        self.tgt_embed = nn.Sequential(_Words(shape), _Places(shape))
        if shape.rows:
            self.src_embed = nn.Sequential(_Places(shape))
            self.cmn = LearntRows(shape)
        else:
            self.rm = RelationalMemory(shape)


class _EncoderDecoder(nn.Module):
    def __init__(self, shape: ReportShape) -> None:
        super().__init__()
        self.att_embed = nn.Sequential(nn.Linear(shape.features, shape.width), nn.ReLU())
        self.model = _Transformer(shape)
        self.logit = nn.Linear(shape.width, shape.vocabulary)
        if shape.rows:
            # Published files name it twice.
            self.cmn = self.model.cmn
            self.memory_matrix = nn.Parameter(torch.zeros(shape.rows, shape.width))


class ReportGenerator(nn.Module):
    """Both halves, as the released file names them. It is also the writer that :mod:`encoder_decoder_graphs` exports."""

    def __init__(self, shape: ReportShape) -> None:
        super().__init__()
        self.shape = shape
        seen = ResNet(shape.blocks, shape.first, 1)
        stages = [getattr(seen, f"layer{n + 1}") for n in range(len(shape.blocks))]
        children = (seen.conv1, seen.bn1, nn.ReLU(), nn.MaxPool2d(3, 2, 1), *stages)
        self.visual_extractor = nn.ModuleDict({"model": nn.Sequential(*children)})
        self.encoder_decoder = _EncoderDecoder(shape)

    @property
    def _model(self) -> Any:
        return inner(self.encoder_decoder, "model")

    def read(self, pixels: Tensor) -> Tensor:
        """Pixels (n, 3, h, w) to what the decoder reads: (n, places, width)."""
        x = self.encoder_decoder.att_embed(self.visual_extractor["model"](pixels).flatten(2).transpose(1, 2))
        if self.shape.rows:
            x = x + self._model.cmn.answer(x, self.encoder_decoder.memory_matrix)
            x = x + self._model.src_embed[0].pe[:, : x.shape[1]]
        for layer in self._model.encoder.layers:
            x = layer.encode(x)
        return self._model.encoder.norm(x)

    def cross_pairs(self, image: Tensor) -> Iterator[Pair]:
        """Keys and values of the image for each layer."""
        for layer in self._model.decoder.layers:
            yield layer.src_attn.pair(image)

    def empty_memory(self) -> Tensor:
        """The relational memory before the first word: (1, slots × width)."""
        return torch.eye(self.shape.slots, self.shape.width).reshape(1, -1)

    def remembered(self, input_ids: Tensor, position_ids: Tensor, memory: Tensor) -> Tensor:
        """The relational memory after one word (batch, 1)."""
        return self._model.rm(self._embedded(input_ids, position_ids)[:, 0], memory)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        past: Sequence[Pair],
        cross: Sequence[Pair],
        memory: Tensor | None = None,
    ) -> tuple[Tensor, list[Pair]]:
        """Logits (batch, 1, vocabulary) after the last token, and the grown cache; R2Gen's takes one token at a time."""
        x = self._embedded(input_ids, position_ids)
        if self.shape.rows:
            x = x + self._model.cmn.answer(x, self.encoder_decoder.memory_matrix)
        bias = causal_bias(position_ids, past[0][0].shape[2] + input_ids.shape[1])
        present = []
        for layer, before, image in zip(self._model.decoder.layers, past, cross, strict=True):
            x, pair = layer.decode(x, before, image, bias, memory)
            present.append(pair)
        return self.encoder_decoder.logit(self._model.decoder.norm(x[:, -1:])), present

    def _embedded(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        words, places = self._model.tgt_embed
        return words(input_ids) + places.pe[0][position_ids]
