"""Merlin's classifying heads: the released checkpoints to a volume graph of logits and a card.

*Phenotypes* lie in the checkpoint that the image–text model is in; ``phenotypes.csv`` of the project's documentation, which
names the 1692 outputs in order, lies beside it. *Five-year risks* have a checkpoint of their own, which holds the image tower
alone with a classifier of six outputs (StanfordMIMI/Merlin: merlin/models/load.py, build.py); documentation/demo.py names them.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from models.code_list import read_codes
from models.errors import CardInvalid, CheckpointMismatch
from models.export.checkpoint import load_exactly, read_checkpoint
from models.export.dual import require
from models.export.graph_export import Exported, Recipe, export_graph
from models.export.imported import Imported, complete_card
from models.export.medclip import resnet_blocks
from models.export.merlin_network import InflatedResNet
from models.export.released_folder import part

PHENOTYPES, RISKS = "merlin-phenotypes", "merlin-five-year"
NAMES_FILE = "phenotypes.csv"
SCHEME = "99PHECODE"
_IMAGE = "encode_image.i3_resnet."
_DISEASES = 6


class Head(nn.Module):
    """Volume (n, 1, x, y, z) to the classifier's logits (n, outputs)."""

    def __init__(self, tower: InflatedResNet) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, volume: Tensor) -> Tensor:
        return self.tower(volume)[1]


def convert_phenotypes(checkpoint: Path, folder: Path) -> Imported:
    """Convert ``i3_resnet_clinical_longformer_best_clip_….pt`` with ``phenotypes.csv`` beside it; its text half is left.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    tensors = read_checkpoint(checkpoint)
    own = part(tensors, _IMAGE)
    tower = tower_of(own)
    names = checkpoint.parent / NAMES_FILE
    outputs = tower.classifier.out_channels
    if (count := _count(names)) != outputs:
        raise CheckpointMismatch(f"{NAMES_FILE} names {count} outputs, the checkpoint has {outputs}")
    load_exactly(tower, own)
    _copy(names, folder / NAMES_FILE)
    graphs = {"main": export(tower, folder)}
    card = complete_card(PHENOTYPES, folder, graphs, files={"phenotypes": NAMES_FILE})
    return Imported(PHENOTYPES, checkpoint, card, tuple(graphs.values()), len(own), len(tensors) - len(own))


def convert_risks(checkpoint: Path, folder: Path) -> Imported:
    """Convert ``resnet_clinical_longformer_five_year_disease_prediction.pt``, whose keys have no prefix.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    own = read_checkpoint(checkpoint)
    tower = tower_of(own)
    if tower.classifier.out_channels != _DISEASES:
        raise CheckpointMismatch(
            f"the classifier has {tower.classifier.out_channels} outputs, not {_DISEASES} diseases"
        )
    load_exactly(tower, own)
    graphs = {"main": export(tower, folder)}
    card = complete_card(RISKS, folder, graphs)
    return Imported(RISKS, checkpoint, card, tuple(graphs.values()), len(own))


def tower_of(tensors: Mapping[str, Tensor]) -> InflatedResNet:
    """Image tower of the sizes the tensors have; their keys without prefix. Raises CheckpointMismatch."""
    first = require(tensors, "conv1.weight", "Merlin").shape[0]
    joint = require(tensors, "contrastive_head.weight", "Merlin").shape[0]
    outputs = require(tensors, "classifier.weight", "Merlin").shape[0]
    return InflatedResNet(resnet_blocks(tensors, ""), first, joint, outputs)


def export(tower: InflatedResNet, folder: Path) -> Exported:
    """Write the graph, whose sides may be any, and compare it with torch at three sizes. Raises ExportFailed."""
    generator = torch.Generator().manual_seed(0)

    def volume(*sides: int) -> tuple[Tensor]:
        return (torch.rand(1, 1, *sides, generator=generator),)

    recipe = Recipe(
        ("volume",),
        ("logits",),
        volume(48, 40, 32),
        [volume(40, 40, 32), volume(48, 64, 40), volume(64, 64, 48)],
        {"volume": {2: "right", 3: "front", 4: "up"}},
    )
    return export_graph(Head(tower.eval()), recipe, folder / "main.onnx")


def _count(names: Path) -> int:
    try:
        return len(read_codes(names, SCHEME))
    except CardInvalid as error:
        raise CheckpointMismatch(f"beside the checkpoint: {error.message}") from error


def _copy(names: Path, target: Path) -> None:
    """The list as it is, but for line ends, so that its digest does not depend on how it was downloaded."""
    with names.open(encoding="utf-8", newline="") as source, target.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(csv.reader(source))
    shutil.copymode(names, target)
