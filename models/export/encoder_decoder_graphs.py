"""The two graphs of an encoder–decoder: ``encoder`` with every layer's cross-attention keys, and ``decoder``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.export.graph_export import Exported, Recipe, export_graph


class WriterStep(nn.Module):
    """A decoder with its caches as flat arguments: ids, positions, ``2 × layers`` of the past, as many of the image."""

    def __init__(self, writer: nn.Module, layers: int) -> None:
        super().__init__()
        self.writer, self.layers = writer, layers

    def forward(self, input_ids: Tensor, position_ids: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        pairs = [(caches[n], caches[n + 1]) for n in range(0, len(caches), 2)]
        logits, present = self.writer(input_ids, position_ids, pairs[: self.layers], pairs[self.layers :])
        return (logits, *(part for pair in present for part in pair))


class ImageEncoder(nn.Module):
    """Pixels to the cross-attention keys and values of every decoder layer."""

    def __init__(self, encoder: nn.Module, writer: Any) -> None:
        super().__init__()
        self.encoder, self.writer = encoder, writer

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        return tuple(part for pair in self.writer.cross_pairs(self.encoder(pixel_values)) for part in pair)


def cache_names(kind: str, layers: int) -> tuple[str, ...]:
    """``KIND.LAYER.k`` and ``.v``."""
    return tuple(f"{kind}.{layer}.{part}" for layer in range(layers) for part in ("k", "v"))


def export_image_encoder(
    encoder: nn.Module, writer: Any, layers: int, images: Sequence[Tensor], folder: Path
) -> Exported:
    """Write ``encoder.onnx``; the image's size is fixed."""
    recipe = Recipe(
        ("pixel_values",),
        cache_names("cross", layers),
        (images[0],),
        [(each,) for each in images],
        {"pixel_values": {0: "count"}},
        legacy_first=True,
    )
    return export_graph(ImageEncoder(encoder, writer), recipe, folder / "encoder.onnx")


def export_writer(writer: Any, keys: int, folder: Path, *, key_size: int | None = None) -> Exported:
    """Write ``decoder.onnx``: first token, a step of three beams of one image, and a piece in between are compared.

    Parameters
    ----------
    keys : int
        Tokens of the encoder, for tracing.
    key_size : int, optional
        Size of a head's cross-attention keys where it is not that of its values.
    """
    shape = writer.shape
    head = shape.width // shape.heads
    past, cross = cache_names("past", shape.layers), cache_names("cross", shape.layers)
    dynamic = {
        "input_ids": {0: "batch", 1: "seq"},
        "position_ids": {0: "batch", 1: "seq"},
        **{name: {0: "batch", 2: "past"} for name in past},
        **{name: {0: "images", 2: "keys"} for name in cross},
    }
    arguments = [
        _arguments(shape, (batch, length, seq), (images, keys + seed, key_size or head), seed)
        for seed, (batch, length, seq, images) in enumerate(((2, 5, 3, 2), (1, 0, 1, 1), (3, 7, 1, 1)))
    ]
    recipe = Recipe(
        ("input_ids", "position_ids", *past, *cross),
        ("logits", *cache_names("present", shape.layers)),
        arguments[0],
        arguments,
        dynamic,
        legacy_first=True,
    )
    return export_graph(WriterStep(writer, shape.layers), recipe, folder / "decoder.onnx")


def _arguments(shape: Any, written: tuple[int, int, int], read: tuple[int, int, int], seed: int) -> tuple[Tensor, ...]:
    """For (batch, past tokens, new tokens) of text and (images, keys, key size) of the encoder."""
    generator = torch.Generator().manual_seed(seed)
    (batch, past, seq), (images, keys, key_size) = written, read
    head = shape.width // shape.heads
    ids = torch.randint(0, shape.vocabulary, (batch, seq), generator=generator)
    places = torch.arange(past, past + seq)[None].expand(batch, -1).contiguous()
    own = [torch.randn(batch, shape.heads, past, head, generator=generator) for _ in range(2 * shape.layers)]
    image = [
        torch.randn(images, shape.heads, keys, size, generator=generator)
        for _ in range(shape.layers)
        for size in (key_size, head)
    ]
    return (ids, places, *own, *image)
