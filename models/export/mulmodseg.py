"""MulModSeg: a checkpoint of ``train.py``, U-Net or Swin UNETR, to one graph with the words of one modality, and a card.

Its authors have released no weights; what a site trains by their script comes in here, once for CT and once for MR.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from models.errors import CheckpointMismatch
from models.export.checkpoint import load_exactly, read_checkpoint
from models.export.dual import count_blocks, require
from models.export.graph_export import Recipe, export_graph
from models.export.imported import Imported, complete_card
from models.export.mulmodseg_network import MulModSeg, MulModSegShape, OfOneModality, UnetShape
from models.export.swin_unetr_network import SwinUnetrShape

SIZE = 96
_NAME = "MulModSeg"
_WORDS = {"MR": 0, "CT": 1}
"""Where the words of a modality are in the file: ``test.py`` and ``model/MulModSeg.py``."""
_SYSTEMS = {"CT": "mulmodseg", "MR": "mulmodseg-mr"}
_LABELS = 14
_SWIN = "backbone.swinViT."


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert ``epoch_N.pt`` for CT. Raises CheckpointMismatch, CheckpointUnsafe, ExportFailed."""
    return convert_for("CT", checkpoint, folder)


def convert_for(modality: Literal["CT", "MR"], checkpoint: Path, folder: Path, *, size: int = SIZE) -> Imported:
    """Convert for a modality; ``size`` is the window's of a Swin UNETR, and does not stand in the file.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    tensors = read_checkpoint(checkpoint)
    shape = shape_of(tensors, size)
    if shape.classes != _LABELS:
        raise CheckpointMismatch(f"the file has {shape.classes} classes; the card's are {_LABELS} with the background")
    network = MulModSeg(shape)
    load_exactly(network, tensors)
    graph = OfOneModality(network, _WORDS[modality]).eval()
    graphs = {"main": export_graph(graph, _recipe(shape), folder / "main.onnx")}
    window = "size = [96, 96, 96]"
    card = complete_card(_SYSTEMS[modality], folder, graphs, replacements={window: window.replace("96", str(size))})
    return Imported(_SYSTEMS[modality], checkpoint, card, tuple(graphs.values()), len(tensors))


def _recipe(shape: MulModSegShape) -> Recipe:
    """A Swin UNETR takes windows of one size; a U-Net any whose sides are multiples of eight."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(shape.backbone, SwinUnetrShape):
        sides = [(shape.backbone.size,) * 3] * 2
        dynamic: dict[str, dict[int, str]] = {}
    else:
        sides, dynamic = [(16, 24, 32), (32, 16, 24)], {"image": {2: "x", 3: "y", 4: "z"}}
    compared = [(torch.rand(1, 1, *each, generator=generator),) for each in sides]
    return Recipe(("image",), ("logits",), compared[0], compared, dynamic, multiples=8, legacy_first=True)


def shape_of(tensors: Mapping[str, Tensor], size: int = SIZE) -> MulModSegShape:
    """Sizes of the network a checkpoint is of.

    Raises
    ------
    CheckpointMismatch
        It is another network, or was trained without words.
    """
    words = require(tensors, "organ_embedding", _NAME)
    if words.ndim != 3 or words.shape[0] != len(_WORDS):
        raise CheckpointMismatch(f"organ_embedding has shape {tuple(words.shape)}: not words of MR and of CT")
    if f"{_SWIN}patch_embed.proj.weight" not in tensors:
        first = require(tensors, "backbone.down_tr64.ops.0.conv1.weight", _NAME)
        return MulModSegShape(UnetShape(first.shape[0]), words.shape[1])
    stages = [f"{_SWIN}layers{n}.0.blocks." for n in range(1, 5)]
    tables = [require(tensors, f"{each}0.attn.relative_position_bias_table", _NAME) for each in stages]
    swin = SwinUnetrShape(
        size=size,
        width=tensors[f"{_SWIN}patch_embed.proj.weight"].shape[0],
        depths=tuple(count_blocks(tensors, each, "norm1.weight") for each in stages),
        heads=tuple(each.shape[1] for each in tables),
        window=(round(tables[0].shape[0] ** (1 / 3)) + 1) // 2,
    )
    return MulModSegShape(swin, words.shape[1])
