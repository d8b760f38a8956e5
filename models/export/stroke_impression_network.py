"""The stroke-impression network: a small convolutional and transformer encoder, a transformer decoder with an explicit
key/value cache. Both halves are exported as they stand here; the cache and the cross-attention keys are plain tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

Cache = list[tuple[Tensor, Tensor]]
"""Keys and values of each decoder layer, each (batch, heads, length, head size)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network."""

    vocabulary: int
    facts: int
    channels: int = 3
    view_pixels: int = 32
    width: int = 96
    heads: int = 4
    encoder_layers: int = 2
    decoder_layers: int = 2
    text: int = 96

    @property
    def head(self) -> int:
        """Size of one attention head."""
        return self.width // self.heads


def _split_heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    score = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if mask is not None:
        score = score.masked_fill(~mask, -1e9)
    return (score.softmax(-1) @ value).transpose(1, 2).flatten(2)


def _feed_forward(width: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


class EncoderLayer(nn.Module):
    """Self-attention over image patches and facts together."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm = nn.LayerNorm(shape.width)
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.out = nn.Linear(shape.width, shape.width)
        self.forward_part = _feed_forward(shape.width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (_split_heads(t, self.heads) for t in self.qkv(self.norm(x)).chunk(3, -1))
        x = x + self.out(_attend(query, key, value))
        return x + self.forward_part(x)


class Encoder(nn.Module):
    """Views (batch, 3, channels, size, size) and fact tokens (batch, facts) → cross-attention keys and values."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, width = shape.heads, shape.width
        self.convolutions = nn.Sequential(
            nn.Conv2d(shape.channels, 16, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(32, 48, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(48, width, 2, stride=2),
        )
        patches = (shape.view_pixels // 16) ** 2
        self.patch_place = nn.Parameter(torch.randn(3 * patches, width) * 0.02)
        self.fact_token = nn.Embedding(shape.vocabulary, width)
        self.fact_place = nn.Parameter(torch.randn(shape.facts, width) * 0.02)
        self.layers = nn.ModuleList(EncoderLayer(shape) for _ in range(shape.encoder_layers))
        self.norm = nn.LayerNorm(width)
        self.cross = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(shape.decoder_layers))

    def forward(self, views: Tensor, fact_ids: Tensor) -> list[Tensor]:
        patches = self.convolutions(views.flatten(0, 1)).flatten(2).transpose(1, 2)
        patches = patches.unflatten(0, (-1, 3)).flatten(1, 2) + self.patch_place
        x = torch.cat([patches, self.fact_token(fact_ids) + self.fact_place], dim=1)
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        return [_split_heads(half, self.heads) for project in self.cross for half in project(x).chunk(2, -1)]


class DecoderLayer(nn.Module):
    """Causal self-attention with cache, cross-attention to the encoder, feed-forward."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm, self.cross_norm = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.out, self.cross_out = (nn.Linear(shape.width, shape.width) for _ in range(2))
        self.cross_query = nn.Linear(shape.width, shape.width)
        self.forward_part = _feed_forward(shape.width)

    def forward(
        self, x: Tensor, mask: Tensor, past: tuple[Tensor, Tensor], cross: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = (_split_heads(t, self.heads) for t in self.qkv(self.norm(x)).chunk(3, -1))
        key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        x = x + self.out(_attend(query, key, value, mask))
        x = x + self.cross_out(_attend(_split_heads(self.cross_query(self.cross_norm(x)), self.heads), *cross))
        return x + self.forward_part(x), key, value


class Decoder(nn.Module):
    """Token ids (batch, steps) and their positions → logits of every step, and the grown cache."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.token = nn.Embedding(shape.vocabulary, shape.width)
        self.place = nn.Embedding(shape.text, shape.width)
        self.layers = nn.ModuleList(DecoderLayer(shape) for _ in range(shape.decoder_layers))
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.vocabulary)

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, past: list[Tensor], cross: list[Tensor]
    ) -> tuple[Tensor, ...]:
        x = self.token(input_ids) + self.place(position_ids)
        length = past[0].shape[2] + input_ids.shape[1]
        mask = torch.arange(length, device=x.device)[None, None, None] <= position_ids[:, None, :, None]
        present = []
        for number, layer in enumerate(self.layers):
            pair = slice(2 * number, 2 * number + 2)
            x, key, value = layer(x, mask, tuple(past[pair]), tuple(cross[pair]))
            present += [key, value]
        return (self.head(self.norm(x)), *present)


class ImpressionNetwork(nn.Module):
    """Encoder and decoder together, for training and for the torch side of the parity check."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder, self.decoder = Encoder(shape), Decoder(shape)

    def empty_cache(self, batch: int) -> list[Tensor]:
        """Cache of no tokens."""
        return [torch.zeros(batch, self.shape.heads, 0, self.shape.head) for _ in range(2 * self.shape.decoder_layers)]

    def loss(self, views: Tensor, fact_ids: Tensor, text_ids: Tensor, padding: int) -> Tensor:
        """Cross entropy of each next token; ``text_ids`` (batch, length) begin with the language, end with the end."""
        inputs, targets = text_ids[:, :-1], text_ids[:, 1:]
        places = torch.arange(inputs.shape[1])[None].expand(inputs.shape[0], -1)
        logits = self.decoder(inputs, places, self.empty_cache(len(inputs)), self.encoder(views, fact_ids))[0]
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=padding)

    @torch.no_grad()
    def greedy(self, views: Tensor, fact_ids: Tensor, start: int, end: int) -> list[int]:
        """Return the most likely continuation of ``start`` for one study (batch of 1), without ``end``."""
        cross, cache, token, text = self.encoder(views, fact_ids), self.empty_cache(1), start, []
        for place in range(self.shape.text):
            logits, *cache = self.decoder(torch.tensor([[token]]), torch.tensor([[place]]), cache, cross)
            token = int(logits[0, -1].argmax())
            if token == end:
                break
            text.append(token)
        return text
