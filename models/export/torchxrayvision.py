"""torchxrayvision's DenseNet121 for chest radiographs: a state dict to one graph and a card.

The files the project publishes are whole pickled modules: reading one runs code from it, so they are refused here. Save
the state dict once where you trust the file (``torch.save(model.state_dict(), PATH)``) and convert that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from models.errors import CheckpointMismatch
from models.export.checkpoint import load_exactly, read_checkpoint
from models.export.densenet_network import DenseNet, DenseNetShape
from models.export.graph_export import Recipe, export_graph
from models.export.imported import Imported, complete_card

SYSTEM = "torchxrayvision"
_SIZE = 224


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert a state dict of torchxrayvision's DenseNet.

    Parameters
    ----------
    checkpoint : Path
        State dict with torchvision's DenseNet keys, one input channel. Sizes are taken from the tensors.
    folder : Path
        Existing folder; gets ``main.onnx`` and ``model.toml``. The card's operating points are those of the weights
        ``densenet121-res224-all``; for others, write theirs into the card.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    tensors = read_checkpoint(checkpoint)
    shape = shape_of(tensors)
    network = DenseNet(shape)
    load_exactly(network, tensors)
    generator = torch.Generator().manual_seed(0)
    images = [
        _ramp(shape.channels),
        *(torch.rand(n, shape.channels, _SIZE, _SIZE, generator=generator) * 2048 - 1024 for n in (2, 3)),
    ]
    recipe = Recipe(("image",), ("logits",), (images[1],), [(image,) for image in images], {"image": {0: "count"}})
    graphs = {"main": export_graph(network, recipe, folder / "main.onnx")}
    card = complete_card(SYSTEM, folder, graphs)
    return Imported(SYSTEM, checkpoint, card, tuple(graphs.values()), len(tensors))


def shape_of(tensors: Mapping[str, Tensor]) -> DenseNetShape:
    """Sizes of the network a state dict is of.

    Raises
    ------
    CheckpointMismatch
        A tensor that tells a size is missing.
    """
    try:
        first, channels = tensors["features.conv0.weight"].shape[:2]
        classes = tensors["classifier.weight"].shape[0]
        growth = tensors["features.denseblock1.denselayer1.conv2.weight"].shape[0]
    except KeyError as error:
        raise CheckpointMismatch(f"not a DenseNet: no {error}") from error
    layers = [re.match(r"features\.denseblock(\d+)\.denselayer(\d+)\.conv1\.weight", key) for key in tensors]
    found = sorted((int(match[1]), int(match[2])) for match in layers if match)
    blocks = tuple(sum(block == number for block, _ in found) for number in range(1, max(b for b, _ in found) + 1))
    return DenseNetShape(channels, classes, growth, blocks, first)


def _ramp(channels: int) -> Tensor:
    steps = torch.linspace(-1024, 1024, _SIZE)
    return ((steps[:, None] + steps[None, :]) / 2).expand(1, channels, _SIZE, _SIZE).contiguous()
