"""VISTA3D: the MONAI bundle's checkpoint to one graph with the class prompts of the card baked in."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from models.errors import CheckpointMismatch
from models.export.checkpoint import load_exactly, read_checkpoint
from models.export.graph_export import Recipe, export_graph
from models.export.imported import CARDS_FOLDER, Imported, complete_card
from models.export.vista3d_network import UNUSED, Vista3d, Vista3dClasses, Vista3dShape

SYSTEM = "vista3d"
_SIDES = (1, 2)
"""Sides of the windows compared with torch, in the least size the network takes."""


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert the bundle.

    Parameters
    ----------
    checkpoint : Path
        ``models/model.pt`` of the bundle, or the bundle's folder. Sizes are taken from the tensors; those of the branch for
        clicks must be there and are left out.
    folder : Path
        Existing folder; gets ``main.onnx`` and ``model.toml``.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    file = checkpoint / "models" / "model.pt" if checkpoint.is_dir() else checkpoint
    tensors = read_checkpoint(file)
    shape = shape_of(tensors)
    network = Vista3d(shape)
    unused = frozenset(key for key in tensors if key.startswith(UNUSED))
    if not unused:
        raise CheckpointMismatch("the branch for clicks is missing: not a released VISTA3D")
    load_exactly(network, tensors, ignored=unused)
    network.eval()
    classes = class_ids()
    if max(classes) >= shape.classes:
        raise CheckpointMismatch(f"the card asks for class {max(classes)}; the checkpoint has {shape.classes}")
    least = 2 ** (len(shape.down) - 1)
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(1, 1, n * least, (n + 1) * least, (n + 2) * least, generator=generator) for n in _SIDES]
    compared = [(image,) for image in images]
    axes = {2: "x", 3: "y", 4: "z"}
    recipe = Recipe(("image",), ("logits",), compared[1], compared, {"image": axes}, multiples=least)
    graphs = {"main": export_graph(Vista3dClasses(network, classes), recipe, folder / "main.onnx")}
    card = complete_card(SYSTEM, folder, graphs)
    return Imported(SYSTEM, file, card, tuple(graphs.values()), len(tensors))


def class_ids() -> tuple[int, ...]:
    """Ids of the classes the card names, in the order of its labels."""
    content = tomllib.loads((CARDS_FOLDER / f"{SYSTEM}.toml").read_text(encoding="utf-8"))
    return tuple(content["provenance"]["class_ids"])


def shape_of(tensors: Mapping[str, Tensor]) -> Vista3dShape:
    """Sizes of the network a checkpoint is of.

    Raises
    ------
    CheckpointMismatch
        A tensor that tells a size is missing.
    """
    try:
        width = tensors["image_encoder.encoder.conv_init.weight"].shape[0]
        classes = tensors["class_head.class_embeddings.weight"].shape[0]
    except KeyError as error:
        raise CheckpointMismatch(f"not VISTA3D: no {error}") from error
    counts: dict[int, set[int]] = {}
    for key in tensors:
        if found := re.match(r"image_encoder\.encoder\.layers\.(\d+)\.blocks\.(\d+)\.", key):
            counts.setdefault(int(found[1]), set()).add(int(found[2]))
    return Vista3dShape(width, tuple(len(counts[level]) for level in sorted(counts)), classes)
