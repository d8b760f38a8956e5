"""OFA written down once more, as plainly as its authors describe it: whole sequences, no cache, tensors by published name.

It shares nothing with the network that is exported; names and shapes are its own list.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from torch import Tensor
from torch.nn import functional as F

CODES, BINS = 8192, 1000
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


@dataclass(frozen=True)
class Sizes:
    """Of one checkpoint."""

    vocabulary: int
    width: int = 32
    heads: int = 4
    hidden: int = 48
    encoder_layers: int = 2
    decoder_layers: int = 2
    token_size: int = 8
    image_size: int = 6
    places: int = 64
    positions: int = 66
    written: int = 270
    blocks: tuple[int, ...] = (1, 1, 1)
    first: int = 4


BASE = Sizes(59457, 768, 12, 3072, 6, 6, 256, 42, 1024, 1026, 1026, (3, 4, 23), 64)


def shapes(s: Sizes) -> dict[str, tuple[int, ...]]:
    """Published key → shape, transformers' layout."""
    w = s.width
    found: dict[str, tuple[int, ...]] = {}

    def linear(name: str, out: int, inward: int) -> None:
        found.update({f"{name}.weight": (out, inward), f"{name}.bias": (out,)})

    def norm(name: str, size: int = w) -> None:
        found.update({f"{name}.weight": (size,), f"{name}.bias": (size,)})

    def attention(name: str) -> None:
        for part in ("q", "k", "v", "out"):
            linear(f"{name}.{part}_proj", w, w)
        found[f"{name}.c_attn"] = (s.heads,)

    for half, layers, attentions in (
        ("encoder", s.encoder_layers, ("self_attn",)),
        ("decoder", s.decoder_layers, ("self_attn", "cross_attn")),
    ):
        found[f"{half}.embed_tokens.weight"] = (s.vocabulary, w)
        found[f"{half}.embed_positions.weight"] = (s.positions, w)
        found[f"{half}.embed_image_positions.weight"] = (s.image_size**2 + 1, w)
        for name in ("layernorm_embedding", "pos_ln", "image_pos_ln", "layer_norm"):
            norm(f"{half}.{name}")
        for n in range(layers):
            for each in attentions:
                attention(f"{half}.layers.{n}.{each}")
                norm(f"{half}.layers.{n}.{each}_layer_norm")
                norm(f"{half}.layers.{n}.{each}_mid_layer_norm")
            linear(f"{half}.layers.{n}.fc1", s.hidden, w)
            linear(f"{half}.layers.{n}.fc2", w, s.hidden)
            norm(f"{half}.layers.{n}.ffn_layer_norm", s.hidden)
            norm(f"{half}.layers.{n}.final_layer_norm")
            found[f"{half}.token_rel_pos_table_list.{n}.weight"] = (2 * s.token_size - 1, s.heads)
            found[f"{half}.image_rel_pos_table_list.{n}.weight"] = ((2 * s.image_size - 1) ** 2 + 3, s.heads)
        found[f"{half}.token_rp_bucket"] = (s.places, s.places)
        found[f"{half}.image_rp_bucket"] = (s.image_size**2 + 1, s.image_size**2 + 1)
    found["encoder.type_embedding.weight"] = (2, w)
    norm("encoder.patch_layernorm_embedding")
    norm("decoder.code_layernorm_embedding")
    for name in ("encoder.pos_q", "encoder.pos_k"):
        linear(f"{name}_linear", w, w)
    for name in ("self_pos_q", "self_pos_k", "cross_pos_q", "cross_pos_k"):
        linear(f"decoder.{name}_linear", w, w)
    found["decoder.output_projection.weight"] = (s.vocabulary, w)
    found["decoder.image_position_idx"] = (s.written,)
    linear("encoder.image_proj", w, 16 * s.first)
    return found | _stem(s)


def _stem(s: Sizes) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {"encoder.embed_images.conv1.weight": (s.first, 3, 7, 7)}

    def batch_norm(name: str, size: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            found[f"encoder.embed_images.{name}.{part}"] = (size,)
        found[f"encoder.embed_images.{name}.num_batches_tracked"] = ()

    batch_norm("bn1", s.first)
    inward = s.first
    for stage, count in enumerate(s.blocks, 1):
        middle = s.first << (stage - 1)
        for n in range(count):
            name = f"layer{stage}.{n}"
            found[f"encoder.embed_images.{name}.conv1.weight"] = (middle, inward, 1, 1)
            found[f"encoder.embed_images.{name}.conv2.weight"] = (middle, middle, 3, 3)
            found[f"encoder.embed_images.{name}.conv3.weight"] = (4 * middle, middle, 1, 1)
            for k, size in ((1, middle), (2, middle), (3, 4 * middle)):
                batch_norm(f"{name}.bn{k}", size)
            if n == 0:
                found[f"encoder.embed_images.{name}.downsample.0.weight"] = (4 * middle, inward, 1, 1)
                batch_norm(f"{name}.downsample.1", 4 * middle)
            inward = 4 * middle
    return found


@cache
def token_bucket(row: int, column: int, s: Sizes) -> int:
    """Bucket of one pair of words."""
    distance, middle = row - column, s.token_size // 2
    if abs(distance) <= middle:
        return distance + s.token_size - 1
    steps = math.ceil(math.log(abs(distance) / middle) / math.log((s.places - 1) / middle) * (middle - 1)) + middle
    return (steps if distance > 0 else -steps) + s.token_size - 1


@cache
def cell_bucket(one: int, other: int, s: Sizes) -> int:
    """Bucket of one pair of an image's places; place 0 is before the first cell."""
    count = (2 * s.image_size - 1) ** 2 + 3
    if not one or not other:
        return count - 1 if one == other else count - 3 if not one else count - 2
    rows = (one - 1) // s.image_size - (other - 1) // s.image_size
    columns = (one - 1) % s.image_size - (other - 1) % s.image_size
    return (rows + s.image_size - 1) * (2 * s.image_size - 1) + columns + s.image_size - 1


def checkpoint(s: Sizes, seed: int, spread: float) -> dict[str, Tensor]:
    """Random weights as a release holds them."""
    generator = torch.Generator().manual_seed(seed)
    made: dict[str, Tensor] = {}
    for name, shape in shapes(s).items():
        if name.endswith("num_batches_tracked"):
            made[name] = torch.tensor(7)
        elif name.endswith("token_rp_bucket"):
            table = [[token_bucket(i, j, s) for j in range(s.places)] for i in range(s.places)]
            made[name] = torch.tensor(table)
        elif name.endswith("image_rp_bucket"):
            count = s.image_size**2 + 1
            made[name] = torch.tensor([[cell_bucket(i, j, s) for j in range(count)] for i in range(count)])
        elif name.endswith("image_position_idx"):
            made[name] = torch.zeros(shape, dtype=torch.int64)
        elif name.endswith("running_var"):
            made[name] = torch.rand(shape, generator=generator) + 0.5
        else:
            # Convolutions so that an image comes through them.
            width = (2.0 / math.prod(shape[1:])) ** 0.5 if len(shape) == 4 else spread
            made[name] = torch.randn(shape, generator=generator) * width + (1.0 if is_scale(name) else 0.0)
    for name in ("decoder.embed_tokens.weight", "decoder.output_projection.weight"):
        made[name] = made["encoder.embed_tokens.weight"]
    return made


def is_scale(name: str) -> bool:
    """Whether a tensor is a norm's scale, or one of the heads'."""
    stem = name.removesuffix(".weight")
    last = stem.rsplit(".", 1)[-1]
    normed = "norm" in last or last.startswith("bn") or last.endswith("_ln") or stem.endswith("downsample.1")
    return name.endswith("c_attn") or (name.endswith(".weight") and normed)


class Reference:
    """The model of a checkpoint."""

    def __init__(self, sizes: Sizes, tensors: dict[str, Tensor]) -> None:
        self.s, self.t = sizes, tensors

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.t[f"{name}.weight"], self.t[f"{name}.bias"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.t[f"{name}.weight"], self.t[f"{name}.bias"])

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(len(x), self.s.heads, -1).permute(1, 0, 2)

    def _attention(self, name: str, x: Tensor, read: Tensor, bias: Tensor) -> Tensor:
        scale = (self.s.width / self.s.heads * 2) ** -0.5
        query = self._heads(self._linear(f"{name}.q_proj", x)) * scale
        key, value = (self._heads(self._linear(f"{name}.{part}_proj", read)) for part in ("k", "v"))
        seen = torch.softmax(query @ key.transpose(1, 2) + bias, -1) @ value
        seen = seen * self.t[f"{name}.c_attn"].view(-1, 1, 1)
        return self._linear(f"{name}.out_proj", seen.permute(1, 0, 2).reshape(len(x), -1))

    def _product(self, name: str, one: Tensor, other: Tensor) -> Tensor:
        query, key = self._linear(f"{name}_q_linear", one), self._linear(f"{name}_k_linear", other)
        return self._heads(query) * (self.s.width / self.s.heads * 2) ** -0.5 @ self._heads(key).transpose(1, 2)

    def _wide(self, name: str, x: Tensor) -> Tensor:
        wide = F.gelu(self._linear(f"{name}.fc1", self._norm(f"{name}.final_layer_norm", x)))
        return x + self._linear(f"{name}.fc2", self._norm(f"{name}.ffn_layer_norm", wide))

    def _distances(self, half: str, layer: int, count: int) -> Tensor:
        table = self.t[f"{half}.token_rel_pos_table_list.{layer}.weight"]
        index = [[token_bucket(i, j, self.s) for j in range(count)] for i in range(count)]
        return table[torch.tensor(index)].permute(2, 0, 1)

    def stem(self, pixels: Tensor) -> Tensor:
        """(3, rows, columns) to (channels, rows / 16, columns / 16)."""

        def conv(name: str, x: Tensor, stride: int, pad: int) -> Tensor:
            return F.conv2d(x, self.t[f"encoder.embed_images.{name}.weight"], stride=stride, padding=pad)

        def bn(name: str, x: Tensor) -> Tensor:
            own = [
                self.t[f"encoder.embed_images.{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")
            ]
            return F.batch_norm(x, *own, eps=1e-5)

        x = F.max_pool2d(F.relu(bn("bn1", conv("conv1", pixels[None], 2, 3))), 3, 2, 1)
        for stage, count in enumerate(self.s.blocks, 1):
            for n in range(count):
                name, stride = f"layer{stage}.{n}", 2 if stage > 1 and n == 0 else 1
                y = F.relu(bn(f"{name}.bn1", conv(f"{name}.conv1", x, 1, 0)))
                y = F.relu(bn(f"{name}.bn2", conv(f"{name}.conv2", y, stride, 1)))
                y = bn(f"{name}.bn3", conv(f"{name}.conv3", y, 1, 0))
                if n == 0:
                    x = bn(f"{name}.downsample.1", conv(f"{name}.downsample.0", x, stride, 0))
                x = F.relu(x + y)
        return x[0]

    def encode(self, pixels: Tensor, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        """States and positions (tokens, width) of an image and a prompt."""
        image = self.stem(pixels)
        rows, columns = image.shape[1:]
        places = [row * self.s.image_size + column + 1 for row in range(rows) for column in range(columns)]
        types = self.t["encoder.type_embedding.weight"]
        cells = self._linear("encoder.image_proj", image.flatten(1).T) + types[1]
        words = self.t["encoder.embed_tokens.weight"][torch.tensor(ids)] + types[0]
        x = torch.cat(
            [
                self._norm("encoder.patch_layernorm_embedding", cells),
                self._norm("encoder.layernorm_embedding", words),
            ]
        )
        image_places = self.t["encoder.embed_image_positions.weight"][torch.tensor(places)]
        placed = torch.cat(
            [
                self._norm("encoder.image_pos_ln", image_places),
                self._norm("encoder.pos_ln", self.t["encoder.embed_positions.weight"][: len(ids)]),
            ]
        )
        shared, count = self._product("encoder.pos", placed, placed), len(places)
        between = torch.tensor([[cell_bucket(i, j, self.s) for j in places] for i in places])
        for n in range(self.s.encoder_layers):
            name, bias = f"encoder.layers.{n}", shared.clone()
            table = self.t[f"encoder.image_rel_pos_table_list.{n}.weight"]
            bias[:, :count, :count] += table[between].permute(2, 0, 1)
            bias[:, count:, count:] += self._distances("encoder", n, len(ids))
            normed = self._norm(f"{name}.self_attn_layer_norm", x)
            seen = self._attention(f"{name}.self_attn", normed, normed, bias)
            x = self._wide(name, x + self._norm(f"{name}.self_attn_mid_layer_norm", seen))
        return self._norm("encoder.layer_norm", x), placed

    def logits(self, encoded: tuple[Tensor, Tensor], written: Sequence[int]) -> Tensor:
        """Logits (tokens, vocabulary) behind every token written so far."""
        states, placed = encoded
        count = len(written)
        own = self._norm("decoder.pos_ln", self.t["decoder.embed_positions.weight"][:count])
        shared, crossed = self._product("decoder.self_pos", own, own), self._product("decoder.cross_pos", own, placed)
        later = torch.full((count, count), float("-inf")).triu(1)
        x = self._norm("decoder.layernorm_embedding", self.t["decoder.embed_tokens.weight"][torch.tensor(written)])
        for n in range(self.s.decoder_layers):
            name = f"decoder.layers.{n}"
            normed = self._norm(f"{name}.self_attn_layer_norm", x)
            bias = shared + self._distances("decoder", n, count) + later
            seen = self._attention(f"{name}.self_attn", normed, normed, bias)
            x = x + self._norm(f"{name}.self_attn_mid_layer_norm", seen)
            normed = self._norm(f"{name}.cross_attn_layer_norm", x)
            seen = self._attention(f"{name}.cross_attn", normed, states, crossed)
            x = self._wide(name, x + self._norm(f"{name}.cross_attn_mid_layer_norm", seen))
        return F.linear(self._norm("decoder.layer_norm", x), self.t["decoder.output_projection.weight"])

    def next_scores(self, encoded: tuple[Tensor, Tensor], written: Sequence[int], last: int) -> Tensor:
        """Logarithms of the next token's probabilities; tokens from ``last`` on and third repeats have none."""
        scores = self.logits(encoded, written)[-1].log_softmax(-1)
        scores[last:] = float("-inf")
        for start in range(len(written) - 2):
            if list(written[start : start + 2]) == list(written[-2:]):
                scores[written[start + 2]] = float("-inf")
        return scores

    @torch.no_grad()
    def write(
        self, pixels: Tensor, prompt: Sequence[int], start: Sequence[int], *, beams: int, longest: int, last: int
    ) -> list[int]:
        """Tokens by beam search (one beam: greedily), each step from the beginning; stop token 2 is not among them.

        A beam that ends is scored by its mean; the search is over as soon as so many have ended.
        """
        encoded = self.encode(pixels, prompt)
        running: list[tuple[list[int], float]] = [([], 0.0)]
        ended: list[tuple[list[int], float]] = []
        for _ in range(longest):
            options = []
            for tokens, score in running:
                scores = self.next_scores(encoded, [*start, *tokens], last)
                best = torch.topk(scores, 2 * beams)
                options += [
                    ([*tokens, int(token)], score + float(value))
                    for value, token in zip(best.values, best.indices, strict=True)
                ]
            options = sorted(options, key=lambda each: -each[1])[: 2 * beams]
            for rank, (tokens, score) in enumerate(options):
                if (tokens[-1] == 2 or len(tokens) == longest) and rank < beams:
                    ended.append((tokens, score / len(tokens)))
            running = [each for each in options if each[0][-1] != 2][:beams]
            ended = sorted(ended, key=lambda each: -each[1])[:beams]
            if len(ended) >= beams:
                break
        tokens = (ended or running)[0][0]
        return tokens[:-1] if tokens[-1] == 2 else tokens


def write_vocabulary(folder: Path, words: Sequence[str]) -> int:
    """``vocab.json`` and ``merges.txt`` that know ``words`` (each with a blank before it) whole; its number of tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: n for n, token in enumerate([*SPECIAL, *letters])}
    merges: list[str] = []
    for word in words:
        built = "Ġ"
        for letter in word:
            pair = f"{built} {letter}"
            built += letter
            if built not in vocabulary:
                vocabulary[built] = len(vocabulary)
                merges.append(pair)
    vocabulary["<mask>"] = len(vocabulary)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    return len(vocabulary) + CODES + BINS
