"""OFA as torch modules with the parameter names of its transformers release (Wang et al. 2022, arXiv 2202.03052).

A ResNet stem sees the image; encoder and decoder know positions only from biases on their attention: a product of
position embeddings, shared by all layers, and a table of distances of each layer. The product between decoder and encoder
rides on the cross-attention keys, so that a step needs nothing but those: keys are (content, position), queries likewise,
and both products have the same scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.attention import attend, split_heads
from models.export.ofa_positions import (
    cells_of,
    image_bucket_count,
    image_buckets,
    token_buckets,
    written_cells,
)
from models.export.report_decoder_network import Pair, causal_bias
from models.export.resnet_network import ResNet

PATCH = 16
"""Pixels of a side that the stem makes one cell."""


@dataclass(frozen=True, slots=True)
class OfaShape:
    """Sizes of both halves.

    Attributes
    ----------
    positions : int
        Rows of the tables of embedded positions.
    places : int
        Rows of the table of distances between tokens: no text is longer.
    written : int
        Places of the table for images that are written (1025 or 1026 in released files); of no use here.
    blocks, first : tuple of int, int
        Of the ResNet stem.
    """

    vocabulary: int
    width: int
    heads: int
    hidden: int
    encoder_layers: int
    layers: int
    positions: int = 1026
    places: int = 1024
    token_size: int = 256
    image_size: int = 42
    written: int = 1026
    blocks: tuple[int, ...] = (3, 4, 23)
    first: int = 64

    @property
    def scale(self) -> float:
        """What products are multiplied by: ``attn_scale_factor`` is two."""
        return (2 * self.width / self.heads) ** -0.5


class _Attention(nn.Module):
    def __init__(self, shape: OfaShape) -> None:
        super().__init__()
        self._shape = shape
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(shape.width, shape.width) for _ in range(4))
        self.c_attn = nn.Parameter(torch.ones(shape.heads))

    def pair(self, x: Tensor) -> Pair:
        """Keys and values of ``x``."""
        return split_heads(self.k_proj(x), self._shape.heads), split_heads(self.v_proj(x), self._shape.heads)

    def query(self, x: Tensor) -> Tensor:
        """Queries of ``x``, not scaled."""
        return split_heads(self.q_proj(x), self._shape.heads)

    def forward(self, query: Tensor, pair: Pair, bias: Tensor | None = None) -> Tensor:
        seen = attend(query, *pair, bias, scale=self._shape.scale)
        return self.out_proj((seen.unflatten(-1, (self._shape.heads, -1)) * self.c_attn[:, None]).flatten(-2))


class _Layer(nn.Module):
    """Attention and feed-forward part, each with a norm before and one in the middle."""

    self_attn: _Attention
    self_attn_layer_norm: nn.LayerNorm
    self_attn_mid_layer_norm: nn.LayerNorm
    cross_attn: _Attention
    cross_attn_layer_norm: nn.LayerNorm
    cross_attn_mid_layer_norm: nn.LayerNorm

    def __init__(self, shape: OfaShape, *, reads_encoder: bool) -> None:
        super().__init__()
        for name in ("self", "cross") if reads_encoder else ("self",):
            setattr(self, f"{name}_attn", _Attention(shape))
            setattr(self, f"{name}_attn_layer_norm", nn.LayerNorm(shape.width))
            setattr(self, f"{name}_attn_mid_layer_norm", nn.LayerNorm(shape.width))
        self.fc1, self.fc2 = nn.Linear(shape.width, shape.hidden), nn.Linear(shape.hidden, shape.width)
        self.ffn_layer_norm = nn.LayerNorm(shape.hidden)
        self.final_layer_norm = nn.LayerNorm(shape.width)

    def wide(self, x: Tensor) -> Tensor:
        """The feed-forward part, added."""
        return x + self.fc2(self.ffn_layer_norm(F.gelu(self.fc1(self.final_layer_norm(x)))))


class _Half(nn.Module):
    """What encoder and decoder both have: embeddings, positions, layers, tables of distances."""

    token_rp_bucket: Tensor
    image_rp_bucket: Tensor
    layers: Any
    token_rel_pos_table_list: Any
    image_rel_pos_table_list: Any

    def __init__(self, shape: OfaShape, shared: nn.Embedding, count: int, *, reads_encoder: bool) -> None:
        super().__init__()
        self._shape = shape
        self.embed_tokens = shared
        self.layernorm_embedding = nn.LayerNorm(shape.width)
        self.embed_positions = nn.Embedding(shape.positions, shape.width)
        self.embed_image_positions = nn.Embedding(shape.image_size**2 + 1, shape.width)
        self.pos_ln, self.image_pos_ln = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        self.layers = nn.ModuleList(_Layer(shape, reads_encoder=reads_encoder) for _ in range(count))
        self.layer_norm = nn.LayerNorm(shape.width)
        self.token_rel_pos_table_list = nn.ModuleList(
            nn.Embedding(2 * shape.token_size - 1, shape.heads) for _ in range(count)
        )
        self.image_rel_pos_table_list = nn.ModuleList(
            nn.Embedding(image_bucket_count(shape.image_size), shape.heads) for _ in range(count)
        )
        self.register_buffer("token_rp_bucket", token_buckets(shape.token_size, shape.places))
        self.register_buffer("image_rp_bucket", image_buckets(shape.image_size))

    def _heads(self, x: Tensor) -> Tensor:
        return split_heads(x[None], self._shape.heads)


class OfaEncoder(_Half):
    """``encoder.*``: an image and a prompt, to states and their positions."""

    def __init__(self, shape: OfaShape, shared: nn.Embedding) -> None:
        super().__init__(shape, shared, shape.encoder_layers, reads_encoder=False)
        self.type_embedding = nn.Embedding(2, shape.width)
        self.embed_images = ResNet(shape.blocks, shape.first)
        del self.embed_images.fc
        self.image_proj = nn.Linear(shape.first << (len(shape.blocks) + 1), shape.width)
        self.patch_layernorm_embedding = nn.LayerNorm(shape.width)
        self.pos_q_linear, self.pos_k_linear = (nn.Linear(shape.width, shape.width) for _ in range(2))

    def embed(self, ids: Tensor) -> Tensor:
        """Tokens of a prompt, embedded."""
        return self.layernorm_embedding(self.embed_tokens(ids) + self.type_embedding.weight[0])

    def see(self, pixel_values: Tensor) -> Tensor:
        """Cells of images, embedded."""
        cells = self.image_proj(self.embed_images(pixel_values).flatten(2).transpose(1, 2))
        return self.patch_layernorm_embedding(cells + self.type_embedding.weight[1])

    def forward(self, x: Tensor, cells: Tensor, between: Tensor) -> tuple[Tensor, Tensor]:
        """States (batch, tokens, width) and normalised positions (tokens, width).

        Parameters
        ----------
        x : Tensor
            Embedded cells, and behind them the embedded prompt.
        cells, between : Tensor
            Places of the cells, and their buckets for each other.
        """
        seen, words = len(cells), x.shape[1] - len(cells)
        placed = self.image_pos_ln(self.embed_image_positions(cells))
        placed = torch.cat([placed, self.pos_ln(self.embed_positions.weight)[:words]])
        shared = self._heads(self.pos_q_linear(placed)) * self._shape.scale
        shared = shared @ self._heads(self.pos_k_linear(placed)).transpose(-2, -1)
        # One table for a layer: distances of cells, of words, and a last row for a cell and a word, which have none.
        rows = image_bucket_count(self._shape.image_size)
        apart = rows + 2 * self._shape.token_size - 1
        above = torch.cat([between, torch.full((seen, words), apart)], 1)
        below = torch.cat([torch.full((words, seen), apart), self.token_rp_bucket[:words, :words] + rows], 1)
        buckets = torch.cat([above, below])
        tables = zip(self.image_rel_pos_table_list, self.token_rel_pos_table_list, strict=True)
        for layer, (image, token) in zip(self.layers, tables, strict=True):
            table = torch.cat([image.weight, token.weight, torch.zeros(1, self._shape.heads)])
            bias = shared + table[buckets].permute(2, 0, 1)
            normed = layer.self_attn_layer_norm(x)
            seen_by = layer.self_attn(layer.self_attn.query(normed), layer.self_attn.pair(normed), bias)
            x = layer.wide(x + layer.self_attn_mid_layer_norm(seen_by))
        return self.layer_norm(x), placed


class OfaDecoder(_Half):
    """``decoder.*``: tokens in, logits out, with cached keys and values."""

    def __init__(self, shape: OfaShape, shared: nn.Embedding) -> None:
        super().__init__(shape, shared, shape.layers, reads_encoder=True)
        self.self_pos_q_linear, self.self_pos_k_linear = (nn.Linear(shape.width, shape.width) for _ in range(2))
        self.cross_pos_q_linear, self.cross_pos_k_linear = (nn.Linear(shape.width, shape.width) for _ in range(2))
        # For images that are written, which this product does not let a model do; loaded, and not used.
        self.code_layernorm_embedding = nn.LayerNorm(shape.width)
        self.register_buffer("image_position_idx", written_cells(shape.image_size, shape.written))
        self.output_projection = nn.Linear(shape.width, shape.vocabulary, bias=False)
        self.output_projection.weight = shared.weight

    @property
    def shape(self) -> OfaShape:
        """Its sizes, as whoever exports it asks for them."""
        return self._shape

    def cross_pairs(self, states: Tensor, placed: Tensor) -> Iterator[Pair]:
        """Keys (content, position) and values of the encoder's states for each layer."""
        places = self._heads(self.cross_pos_k_linear(placed)).expand(states.shape[0], -1, -1, -1)
        for layer in self.layers:
            key, value = layer.cross_attn.pair(states)
            yield torch.cat([key, places], -1), value

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, past: list[Pair], cross: list[Pair]
    ) -> tuple[Tensor, list[Pair]]:
        """Logits (batch, 1, vocabulary) after the last token, and the grown cache."""
        total = past[0][0].shape[2] + input_ids.shape[1]
        # Of whole tables, which are constant: a runtime works them out once.
        placed = self.pos_ln(self.embed_positions.weight)
        own = split_heads(self.self_pos_q_linear(placed)[position_ids], self._shape.heads) * self._shape.scale
        shared = own @ self._heads(self.self_pos_k_linear(placed)[:total]).transpose(-2, -1)
        shared = shared + causal_bias(position_ids, total)
        places = split_heads(self.cross_pos_q_linear(placed)[position_ids], self._shape.heads)
        buckets = self.token_rp_bucket[position_ids][:, :, :total]
        x = self.layernorm_embedding(self.embed_tokens(input_ids))
        present = []
        each = zip(self.layers, self.token_rel_pos_table_list, past, cross, strict=True)
        for layer, table, before, read in each:
            normed = layer.self_attn_layer_norm(x)
            new = layer.self_attn.pair(normed)
            pair = torch.cat([before[0], new[0]], 2), torch.cat([before[1], new[1]], 2)
            present.append(pair)
            bias = shared + table(buckets).permute(0, 3, 1, 2)
            x = x + layer.self_attn_mid_layer_norm(layer.self_attn(layer.self_attn.query(normed), pair, bias))
            query = torch.cat([layer.cross_attn.query(layer.cross_attn_layer_norm(x)), places], -1)
            x = layer.wide(x + layer.cross_attn_mid_layer_norm(layer.cross_attn(query, read)))
        return self.output_projection(self.layer_norm(x[:, -1:])), present


class Ofa(nn.Module):
    """Both halves; they and the head share the embeddings."""

    def __init__(self, shape: OfaShape) -> None:
        super().__init__()
        self.shape = shape
        shared = nn.Embedding(shape.vocabulary, shape.width)
        self.encoder, self.decoder = OfaEncoder(shape, shared), OfaDecoder(shape, shared)

    def embed(self, ids: Tensor) -> Tensor:
        """Embedded tokens of a prompt."""
        return self.encoder.embed(ids)


class ImageCells(nn.Module):
    """Pixels to embedded cells."""

    def __init__(self, ofa: Ofa) -> None:
        super().__init__()
        self.ofa = ofa

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.ofa.encoder.see(pixel_values)


class PromptEncoder(nn.Module):
    """Embedded cells of one size of image, and the prompt, to cross-attention keys and values of every decoder layer."""

    cells: Tensor
    between: Tensor

    def __init__(self, ofa: Ofa, rows: int, columns: int) -> None:
        super().__init__()
        self.ofa = ofa
        cells = cells_of(rows, columns, ofa.shape.image_size)
        self.register_buffer("cells", cells)
        self.register_buffer("between", ofa.encoder.image_rp_bucket[cells][:, cells])

    def forward(self, inputs_embeds: Tensor) -> tuple[Tensor, ...]:
        states, placed = self.ofa.encoder(inputs_embeds, self.cells, self.between)
        return tuple(part for pair in self.ofa.decoder.cross_pairs(states, placed) for part in pair)
