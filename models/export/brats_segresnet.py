"""MONAI bundle ``brats_mri_segmentation``: ``model.pt`` to one graph and a card for glioma on four MR series."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from models.errors import CheckpointMismatch
from models.export.checkpoint import load_exactly, read_checkpoint
from models.export.graph_export import Recipe, export_graph
from models.export.imported import Imported, complete_card
from models.export.segresnet_network import SegResNet, SegResNetShape

SYSTEM = "brats-segresnet"
_COMPARED = (16, 24)
"""Sides of the windows compared with torch; the graph takes any multiple of eight."""


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert the bundle.

    Parameters
    ----------
    checkpoint : Path
        ``models/model.pt`` of the bundle, or the bundle's folder. Sizes are taken from the tensors.
    folder : Path
        Existing folder; gets ``main.onnx`` and ``model.toml``.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    file = checkpoint / "models" / "model.pt" if checkpoint.is_dir() else checkpoint
    tensors = read_checkpoint(file)
    shape = shape_of(tensors)
    network = SegResNet(shape)
    load_exactly(network, tensors)
    factor = 2 ** len(shape.up)
    generator = torch.Generator().manual_seed(0)
    sides = [factor * (side // 8) for side in _COMPARED]
    images = [torch.randn(1, shape.channels, side, side + factor, side, generator=generator) for side in sides]
    axes = {2: "x", 3: "y", 4: "z"}
    compared = [(image,) for image in images]
    recipe = Recipe(("image",), ("logits",), compared[0], compared, {"image": axes}, multiples=factor)
    graphs = {"main": export_graph(network, recipe, folder / "main.onnx")}
    card = complete_card(SYSTEM, folder, graphs)
    return Imported(SYSTEM, file, card, tuple(graphs.values()), len(tensors))


def shape_of(tensors: Mapping[str, Tensor]) -> SegResNetShape:
    """Sizes of the network a checkpoint is of.

    Raises
    ------
    CheckpointMismatch
        A tensor that tells a size is missing.
    """
    try:
        first, channels = tensors["convInit.conv.weight"].shape[:2]
        outputs = tensors["conv_final.2.conv.weight"].shape[0]
    except KeyError as error:
        raise CheckpointMismatch(f"not a SegResNet: no {error}") from error
    counts: dict[str, dict[int, set[int]]] = {"down": {}, "up": {}}
    for key in tensors:
        if found := re.match(r"(down|up)_layers\.(\d+)\.(\d+)\.norm1\.weight", key):
            counts[found[1]].setdefault(int(found[2]), set()).add(int(found[3]))
    down, up = (tuple(len(counts[name][n]) for n in sorted(counts[name])) for name in ("down", "up"))
    return SegResNetShape(channels, outputs, first, down, up)
