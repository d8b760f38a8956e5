"""ChatCAD's classifier, JF Healthcare's for CheXpert: the state dict ``JFchexpert.pth`` to one graph and a card."""

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
from models.export.jf_network import JfClassifier, JfShape

SYSTEM = "chatcad-classifier"
SIZE = 512
_CONDITIONS = 5


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert the released file. Raises CheckpointMismatch, CheckpointUnsafe, ExportFailed."""
    return convert_sized(checkpoint, folder, SIZE)


def convert_sized(checkpoint: Path, folder: Path, size: int) -> Imported:
    """Convert for images of ``size`` pixels. Raises as :func:`convert`."""
    tensors = read_checkpoint(checkpoint)
    network = JfClassifier(shape_of(tensors))
    load_exactly(network, tensors)
    network.eval()
    generator = torch.Generator().manual_seed(0)
    images = [_ramp(size), *(torch.randn(n, 3, size, size, generator=generator) for n in (2, 3))]
    recipe = Recipe(
        ("image",),
        ("logits",),
        (images[1],),
        [(image,) for image in images],
        {"image": {0: "count"}},
        legacy_first=True,
    )
    graphs = {"main": export_graph(network, recipe, folder / "main.onnx")}
    card = complete_card(SYSTEM, folder, graphs, replacements={"size = 512": f"size = {size}"})
    return Imported(SYSTEM, checkpoint, card, tuple(graphs.values()), len(tensors))


def shape_of(tensors: Mapping[str, Tensor]) -> JfShape:
    """Sizes of the tensors.

    Raises
    ------
    CheckpointMismatch
        It is another network, or of other conditions than the card's five.
    """
    try:
        first = tensors["backbone.features.conv0.weight"].shape[0]
        growth = tensors["backbone.features.denseblock1.denselayer1.conv2.weight"].shape[0]
    except KeyError as error:
        raise CheckpointMismatch(f"not JF Healthcare's classifier: no {error}") from error
    layers = [
        re.fullmatch(r"backbone\.features\.denseblock(\d+)\.denselayer\d+\.conv1\.weight", key) for key in tensors
    ]
    numbers = [int(match[1]) for match in layers if match]
    conditions = sum(re.fullmatch(r"fc_\d+\.weight", key) is not None for key in tensors)
    if conditions != _CONDITIONS:
        raise CheckpointMismatch(f"the file has {conditions} conditions, ChatCAD's five are known")
    return JfShape(growth, tuple(numbers.count(n) for n in range(1, max(numbers) + 1)), first, conditions)


def _ramp(size: int) -> Tensor:
    steps = torch.linspace(-2, 2, size)
    return ((steps[:, None] + steps[None, :]) / 2).expand(1, 3, size, size).contiguous()
