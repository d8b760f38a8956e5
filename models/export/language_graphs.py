"""The three graphs of an image-reading language model: ``vision``, ``embed`` and ``decoder``, each proved equal.

One recipe serves every architecture: masks, positions and cache are inputs, names carry the wiring that
:mod:`models.generation.wiring` follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from models.export.graph_export import Exported, Recipe, export_graph

NEVER = float(torch.finfo(torch.float32).min)
"""What a mask adds where a token must not look."""


class CachedDecoder(Protocol):
    """Sizes a decoder must tell to be exported."""

    @property
    def vocabulary(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def head_size(self) -> int: ...
    @property
    def sections(self) -> tuple[int, ...]: ...
    @property
    def windowed(self) -> bool: ...


class Embedder(nn.Module):
    """Token ids to embeddings."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.model.embed(input_ids)


class _OneMask(nn.Module):
    """A decoder without windows, as the exporters want it: no argument that is None."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs_embeds: Tensor, position_ids: Tensor, mask: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        return self.model(inputs_embeds, position_ids, mask, None, *past)


def export_embedder(model: nn.Module, vocabulary: int, folder: Path) -> Exported:
    """Write ``embed.onnx``."""
    ids = [_tokens(shape, vocabulary, seed) for seed, shape in enumerate(((2, 3), (1, 1), (1, 7)))]
    recipe = Recipe(
        ("input_ids",),
        ("inputs_embeds",),
        (ids[0],),
        [(each,) for each in ids],
        {"input_ids": {0: "batch", 1: "seq"}},
        legacy_first=True,
    )
    return export_graph(Embedder(model), recipe, folder / "embed.onnx")


def export_decoder(model: nn.Module, shape: CachedDecoder, folder: Path) -> Exported:
    """Write ``decoder.onnx``: a prompt, one step of several beams and a piece in between are compared with torch."""
    cache = [f"{kind}.{layer}.{part}" for kind in ("past",) for layer in range(shape.layers) for part in ("k", "v")]
    masks = ["mask", *(["mask_sliding"] if shape.windowed else [])]
    positions = {1: "batch", 2: "seq"} if shape.sections else {0: "batch", 1: "seq"}
    dynamic = {
        "inputs_embeds": {0: "batch", 1: "seq"},
        "position_ids": positions,
        **{name: {2: "seq", 3: "total"} for name in masks},
        **{name: {0: "batch", 2: "past"} for name in cache},
    }
    arguments = [
        _arguments(shape, batch, past, seq, seed)
        for seed, (batch, past, seq) in enumerate(((2, 5, 3), (1, 0, 6), (3, 7, 1)))
    ]
    recipe = Recipe(
        ("inputs_embeds", "position_ids", *masks, *cache),
        ("logits", *(name.replace("past", "present") for name in cache)),
        arguments[0],
        arguments,
        dynamic,
        following=frozenset({"total"}),
        legacy_first=True,
    )
    return export_graph(model if shape.windowed else _OneMask(model), recipe, folder / "decoder.onnx")


def export_vision(
    module: nn.Module, images: Sequence[Tensor] | Sequence[tuple[Tensor, Tensor]], folder: Path, *, name: str = "vision"
) -> Exported:
    """Write ``NAME.onnx``: pixels to what stands in for image tokens.

    The size of the images is fixed and their number is not; where places stand beside the pixels, both are free.
    """
    compared = [each if isinstance(each, tuple) else (each,) for each in images]
    placed = len(compared[0]) == 2
    recipe = Recipe(
        ("pixel_values", "places") if placed else ("pixel_values",),
        ("image_features",),
        compared[0],
        compared,
        {"pixel_values": {0: "count"}, **({"places": {0: "tokens", 1: "merged"}} if placed else {})},
        legacy_first=True,
    )
    return export_graph(module, recipe, folder / f"{name}.onnx")


def causal(past: int, seq: int, window: int | None = None) -> Tensor:
    """Additive mask (1, 1, seq, past + seq)."""
    places = torch.arange(past, past + seq)[:, None]
    keys = torch.arange(past + seq)[None]
    seen = keys <= places
    if window is not None:
        seen = seen & (places - keys < window)
    return torch.where(seen, 0.0, NEVER)[None, None]


def _tokens(shape: tuple[int, int], vocabulary: int, seed: int) -> Tensor:
    return torch.randint(0, vocabulary, shape, generator=torch.Generator().manual_seed(seed))


def _arguments(shape: CachedDecoder, batch: int, past: int, seq: int, seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    places = torch.arange(past, past + seq)[None].expand(batch, -1)
    if shape.sections:
        places = torch.stack([places, places // 2, places // 3])
    masks = [causal(past, seq), *([causal(past, seq, 4)] if shape.windowed else [])]
    size = (batch, shape.kv_heads, past, shape.head_size)
    cache = [torch.randn(size, generator=generator) for _ in range(2 * shape.layers)]
    embedded = torch.randn(batch, seq, shape.width, generator=generator)
    return (embedded, places.contiguous(), *masks, *cache)
