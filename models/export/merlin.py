"""Merlin: the released checkpoint to a volume graph and vectors of the card's phrases.

Beside the checkpoint lie ``config.json`` and ``tokenizer.json`` of Clinical-Longformer, whose weights the checkpoint holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from models.errors import CheckpointMismatch
from models.export.checkpoint import load_exactly, read_checkpoint
from models.export.clinical_bert import STALE
from models.export.dual import class_vectors, require, save_vectors, without
from models.export.graph_export import Exported, Recipe, export_graph
from models.export.imported import Imported, complete_card
from models.export.medclip import resnet_blocks
from models.export.merlin_network import InflatedResNet, LongformerText
from models.export.text_tower import batch, bert_shape

SYSTEM = "merlin"
_IMAGE = "encode_image.i3_resnet."
_FIRST_POSITION = 2


class Merlin(nn.Module):
    """Both towers and the scale, as the released file names them."""

    def __init__(self, image: InflatedResNet, text: LongformerText) -> None:
        super().__init__()
        self.encode_image = nn.ModuleDict({"i3_resnet": image})
        self.encode_text = text
        self.logit_scale = nn.Parameter(torch.zeros(()))


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert ``i3_resnet_clinical_longformer_best_clip_….pt``.

    Parameters
    ----------
    checkpoint : Path
        The file.
    folder : Path
        Existing folder; gets ``main.onnx``, ``phrases.npz`` and ``model.toml``.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    tensors = without(read_checkpoint(checkpoint), STALE)
    network = network_of(tensors, checkpoint.parent)
    load_exactly(network, tensors)
    network.eval()
    words = _tokenizer(checkpoint.parent)

    def embed(phrases: Sequence[str]) -> Tensor:
        ids, mask = batch([sanitised(phrase) for phrase in phrases], words)
        with torch.no_grad():
            return network.encode_text(ids, mask)

    save_vectors(class_vectors(SYSTEM, embed), folder)
    image = network.encode_image["i3_resnet"]
    assert isinstance(image, InflatedResNet)
    graphs = {"main": export(image, folder)}
    card = complete_card(SYSTEM, folder, graphs, files={"phrases": "phrases.npz"})
    return Imported(SYSTEM, checkpoint, card, tuple(graphs.values()), len(tensors))


def network_of(tensors: Mapping[str, Tensor], source: Path) -> Merlin:
    """Network of the sizes the tensors have; the text tower's stand in ``config.json``. Raises CheckpointMismatch."""
    first = require(tensors, f"{_IMAGE}conv1.weight", "Merlin").shape[0]
    joint = require(tensors, f"{_IMAGE}contrastive_head.weight", "Merlin").shape[0]
    phenotypes = require(tensors, f"{_IMAGE}classifier.weight", "Merlin").shape[0]
    image = InflatedResNet(resnet_blocks(tensors, _IMAGE), first, joint, phenotypes)
    shape = replace(bert_shape(source)[0], first_position=_FIRST_POSITION, global_projections=True)
    return Merlin(image, LongformerText(shape, joint))


def export(image: InflatedResNet, folder: Path) -> Exported:
    """Write the volume graph, whose sides may be any, and compare it with torch at three sizes. Raises ExportFailed."""
    generator = torch.Generator().manual_seed(0)

    def volume(*sides: int) -> tuple[Tensor]:
        return (torch.rand(1, 1, *sides, generator=generator),)

    recipe = Recipe(
        ("volume",),
        ("global", "phenotypes"),
        volume(48, 40, 32),
        [volume(40, 40, 32), volume(48, 64, 40), volume(64, 64, 48)],
        {"volume": {2: "right", 3: "front", 4: "up"}},
    )
    return export_graph(image, recipe, folder / "main.onnx")


def sanitised(phrase: str) -> str:
    """In lower case, words and marks apart, as the released code prepares reports."""
    return " ".join(re.findall(r"\w+|[^\w\s]+", phrase.lower()))


def _tokenizer(folder: Path) -> Tokenizer:
    try:
        made = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises bare exceptions
        raise CheckpointMismatch(f"tokenizer.json cannot be read: {str(error).splitlines()[0]}") from error
    made.no_padding()
    made.no_truncation()
    return made
