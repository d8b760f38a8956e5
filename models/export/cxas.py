"""CXAS (PAXRay): ``UNet_ResNet50_default.pth`` to one graph and a card with its 159 structures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from models.errors import CheckpointMismatch
from models.export.checkpoint import load_exactly, read_checkpoint
from models.export.cxas_network import CxasShape, CxasUnet
from models.export.dual import count_blocks, require
from models.export.graph_export import Recipe, export_graph
from models.export.imported import Imported, complete_card

SYSTEM = "cxas"
SIZE = 512
_CLASSES = CxasShape().classes


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert the released file. Raises CheckpointMismatch, CheckpointUnsafe, ExportFailed."""
    return convert_sized(checkpoint, folder, SIZE)


def convert_sized(checkpoint: Path, folder: Path, size: int) -> Imported:
    """Convert for images of ``size`` pixels, which does not stand in the file. Raises as :func:`convert`."""
    tensors = read_checkpoint(checkpoint)
    network = CxasUnet(shape_of(tensors))
    load_exactly(network, tensors)
    network.eval()
    generator = torch.Generator().manual_seed(0)
    smaller = torch.randn(1, 3, size // 2, size // 2 + 32, generator=generator)
    images = [_ramp(size), torch.randn(1, 3, size, size, generator=generator), smaller]
    recipe = Recipe(
        ("image",),
        ("logits",),
        (smaller,),
        [(image,) for image in images],
        {"image": {2: "rows", 3: "columns"}},
        legacy_first=True,
    )
    graphs = {"main": export_graph(network, recipe, folder / "main.onnx")}
    card = complete_card(SYSTEM, folder, graphs, replacements={"size = 512": f"size = {size}"})
    return Imported(SYSTEM, checkpoint, card, tuple(graphs.values()), len(tensors))


def shape_of(tensors: Mapping[str, Tensor]) -> CxasShape:
    """Sizes of the tensors.

    Raises
    ------
    CheckpointMismatch
        It is another network, or of other structures than the card's.
    """
    body = "backbone.backbone."
    out = require(tensors, "head.out.conv.weight", "CXAS")
    if out.shape[0] != _CLASSES:
        raise CheckpointMismatch(f"the file has {out.shape[0]} structures; the {_CLASSES} of CXAS are known")
    stages = [count_blocks(tensors, f"{body}layer{n}.", "conv3.weight") for n in range(1, 5)]
    first = require(tensors, f"{body}layer0.0.weight", "CXAS").shape[0]
    return CxasShape(tuple(stages), first, out.shape[1], out.shape[0])


def _ramp(size: int) -> Tensor:
    steps = torch.linspace(-2, 2, size)
    return ((steps[:, None] + steps[None, :]) / 2).expand(1, 3, size, size).contiguous()
