"""R2Gen: the released ``.pth`` to two graphs and a card. Its words come from a file beside it; no checkpoint holds them.

The file is ``model_mimic_cxr.pth`` of ``zhjohnchan/R2Gen``, with ``annotation.json`` or ``vocabulary.json`` beside it
(:mod:`models.export.report_words`). Sizes are the tensors'; what these do not show (attention heads, rows that answer,
beams, longest report) is the training scripts' default unless a ``config.json`` beside it says otherwise, under the
repository's own names. The weights for IU X-ray read two images at once and have no converter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import CheckpointMismatch
from models.export.checkpoint import load_exactly, read_checkpoint
from models.export.dual import count_blocks, require
from models.export.encoder_decoder_graphs import ImageEncoder, cache_names, export_image_encoder, export_writer
from models.export.graph_export import Exported, Recipe, export_graph
from models.export.imported import Imported, complete_card
from models.export.r2gen_network import ReportGenerator, ReportShape
from models.export.report_words import word_tokenizer, words_beside

SYSTEM = "r2gen"
SIZE = 224
_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
_TITLES = {"r2gen": "R2Gen", "r2gen-cmn": "R2GenCMN"}
_WEIGHTS = (".pth", ".pt", ".bin", ".safetensors")


class _Reader(nn.Module):
    """Pixels to what the decoder reads."""

    def __init__(self, network: ReportGenerator) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.network.read(pixel_values)


class _RememberingEncoder(nn.Module):
    """The image's keys and values for every layer, and the relational memory that a report begins with."""

    def __init__(self, network: ReportGenerator) -> None:
        super().__init__()
        self.reader = ImageEncoder(_Reader(network), network)
        self.memory = network.empty_memory()

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        return (*self.reader(pixel_values), self.memory.expand(pixel_values.shape[0], -1))


class _RememberingStep(nn.Module):
    """One word for each row: the memory takes it in, then the decoder is steered by it."""

    def __init__(self, network: ReportGenerator) -> None:
        super().__init__()
        self.network, self.layers = network, network.shape.layers

    def forward(self, input_ids: Tensor, position_ids: Tensor, memory: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        memory = self.network.remembered(input_ids, position_ids, memory)
        pairs = [(caches[n], caches[n + 1]) for n in range(0, len(caches), 2)]
        own, image = pairs[: self.layers], pairs[self.layers :]
        logits, present = self.network(input_ids, position_ids, own, image, memory)
        return (logits, memory, *(part for pair in present for part in pair))


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert R2Gen's released file.

    Parameters
    ----------
    checkpoint : Path
        The file, or a folder with no other.
    folder : Path
        Existing folder; gets ``encoder.onnx``, ``decoder.onnx``, ``tokenizer.json`` and ``model.toml``.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    return convert_as(SYSTEM, checkpoint, folder)


def convert_as(system: str, checkpoint: Path, folder: Path, *, size: int = SIZE) -> Imported:
    """Convert R2Gen or R2GenCMN, by ``system``; images of ``size`` pixels. Raises as :func:`convert`."""
    weights = _weights(checkpoint)
    settings = _settings(weights.parent)
    tensors = read_checkpoint(weights)
    shape = shape_of(tensors, settings, system)
    words = words_beside(weights.parent, shape.vocabulary)
    network = ReportGenerator(shape)
    load_exactly(network, tensors)
    network.eval()
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(n, 3, size, size, generator=generator) for n in (2, 1)]
    with torch.no_grad():
        places = network.read(images[1]).shape[1]
    if shape.rows:
        graphs = {
            "encoder": export_image_encoder(_Reader(network), network, shape.layers, images, folder),
            "decoder": export_writer(network, places, folder),
        }
    else:
        graphs = {
            "encoder": _export_encoder(network, images, folder),
            "decoder": _export_step(network, places, folder),
        }
    word_tokenizer(words).save(str(folder / "tokenizer.json"), pretty=False)
    card = complete_card(
        system, folder, graphs, files={"tokenizer": "tokenizer.json"}, tables=_tables(shape, settings, size)
    )
    return Imported(system, weights, card, tuple(graphs.values()), len(tensors))


def shape_of(tensors: Mapping[str, Tensor], settings: Mapping[str, Any], system: str) -> ReportShape:
    """Sizes of the tensors.

    Raises
    ------
    CheckpointMismatch
        It is the other of the two, or none of them.
    """
    title, model = _TITLES[system], "encoder_decoder.model."
    vocabulary, width = require(tensors, f"{model}tgt_embed.0.lut.weight", title).shape
    rows = tensors["encoder_decoder.memory_matrix"].shape[0] if "encoder_decoder.memory_matrix" in tensors else 0
    if bool(rows) != (system == "r2gen-cmn"):
        raise CheckpointMismatch(f"not a checkpoint of {title}; import it as {'r2gen-cmn' if rows else 'r2gen'}")
    stages = sorted({int(m[1]) for key in tensors if (m := re.match(r"visual_extractor\.model\.(\d+)\.0\.conv1", key))})
    steering = f"{model}decoder.layers.0.sublayer.0.norm.mlp_gamma.0.weight"
    shape = ReportShape(
        vocabulary=vocabulary,
        width=width,
        layers=count_blocks(tensors, f"{model}decoder.layers.", "self_attn.linears.0.weight"),
        heads=int(settings.get("num_heads", 8)),
        hidden=require(tensors, f"{model}decoder.layers.0.feed_forward.w_1.weight", title).shape[0],
        places=require(tensors, f"{model}tgt_embed.1.pe", title).shape[1],
        blocks=tuple(count_blocks(tensors, f"visual_extractor.model.{n}.", "conv1.weight") for n in stages),
        first=require(tensors, "visual_extractor.model.0.weight", title).shape[0],
        slots=0 if rows else require(tensors, steering, title).shape[1] // width,
        memory_heads=int(settings.get("rm_num_heads", 8)),
        rows=rows,
        best=int(settings.get("topk", 32)),
    )
    if width % shape.heads or width % shape.memory_heads:
        raise CheckpointMismatch(f"config.json: {width} channels cannot be shared by the heads it states")
    return shape


def _export_encoder(network: ReportGenerator, images: list[Tensor], folder: Path) -> Exported:
    recipe = Recipe(
        ("pixel_values",),
        (*cache_names("cross", network.shape.layers), "past.memory"),
        (images[0],),
        [(each,) for each in images],
        {"pixel_values": {0: "count"}},
        legacy_first=True,
    )
    return export_graph(_RememberingEncoder(network), recipe, folder / "encoder.onnx")


def _export_step(network: ReportGenerator, places: int, folder: Path) -> Exported:
    """The first word, one in the middle, one of three beams of one image; two images are traced."""
    shape = network.shape
    past, cross = cache_names("past", shape.layers), cache_names("cross", shape.layers)
    arguments = [
        _step_arguments(shape, batch, done, images, places) for batch, done, images in ((2, 5, 2), (1, 0, 1), (3, 7, 1))
    ]
    recipe = Recipe(
        ("input_ids", "position_ids", "past.memory", *past, *cross),
        ("logits", "present.memory", *cache_names("present", shape.layers)),
        arguments[0],
        arguments,
        {
            **{name: {0: "batch"} for name in ("input_ids", "position_ids", "past.memory")},
            **{name: {0: "batch", 2: "past"} for name in past},
            **{name: {0: "images", 2: "keys"} for name in cross},
        },
        legacy_first=True,
    )
    return export_graph(_RememberingStep(network), recipe, folder / "decoder.onnx")


def _step_arguments(shape: ReportShape, batch: int, done: int, images: int, places: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(done)
    head = shape.width // shape.heads

    def noise(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=generator)

    return (
        torch.randint(0, shape.vocabulary, (batch, 1), generator=generator),
        torch.full((batch, 1), done, dtype=torch.int64),
        noise(batch, shape.slots * shape.width),
        *(noise(batch, shape.heads, done, head) for _ in range(2 * shape.layers)),
        *(noise(images, shape.heads, places + done, head) for _ in range(2 * shape.layers)),
    )


def _tables(shape: ReportShape, settings: Mapping[str, Any], size: int) -> dict[str, Any]:
    """How it writes (main.py and test_mimic_cxr.sh of both repositories) and what it looks at (modules/dataloaders.py).

    One beam is the likeliest word each time, without the penalty on repeated runs of three words that the original has there.
    """
    beams = int(settings.get("beam_size", 3))
    search = {"kind": "beams", "beams": beams, "ended": "kept"} if beams > 1 else {"kind": "greedy"}
    return {
        "options.cache": {"layers": shape.layers, "heads": shape.heads, "head_size": shape.width // shape.heads},
        "options.decoding": {
            "start_tokens": [0],
            "stop_tokens": [0],
            "maximum_tokens": int(settings.get("max_seq_length", 100)),
            "seconds": 120.0,
        },
        "options.decoding.strategy": search,
        "options.image": {"levels": "own_range", "mean": _MEAN, "std": _STD},
        "options.image.steps": [{"step": "stretch", "size": size, "filter": "pil_bilinear"}],
    }


def _weights(checkpoint: Path) -> Path:
    if checkpoint.is_file():
        return checkpoint
    found = sorted(path for path in checkpoint.glob("*") if path.suffix in _WEIGHTS)
    if len(found) != 1:
        raise CheckpointMismatch(f"the folder holds {len(found)} files of weights; name the one that is meant")
    return found[0]


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        wanted = ("num_heads", "rm_num_heads", "topk", "beam_size", "max_seq_length")
        return {name: int(content[name]) for name in wanted if name in content}
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointMismatch(f"config.json cannot be read: {error}") from error
