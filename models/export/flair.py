"""FLAIR: ResNet50 and Bio_ClinicalBERT for colour fundus photographs, to an image graph and vectors of the card's phrases.

The file is the released state dict; beside it lie ``config.json``, ``vocab.txt`` and ``tokenizer_config.json`` of
Bio_ClinicalBERT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.checkpoint import load_exactly, read_checkpoint
from models.export.clinical_bert import STALE, NormedProjectedText
from models.export.dual import class_vectors, export_image, require, save_vectors, scale_lines, without
from models.export.imported import Imported, complete_card
from models.export.medclip import LONGEST_TEXT, resnet_blocks
from models.export.resnet_network import ResNet
from models.export.text_tower import batch, bert_shape, tokenizer, weights_file

SYSTEM = "flair"
SIZE = 512


class _Backbone(ResNet):
    """Without a classifier."""

    def __init__(self, blocks: Sequence[int], first: int) -> None:
        super().__init__(blocks, first, 1)
        self.width = self.fc.in_features
        del self.fc


class FlairImage(nn.Module):
    """Pooled features, normalised, projected; those of each place likewise."""

    def __init__(self, blocks: Sequence[int] = (3, 4, 6, 3), first: int = 64, joint: int = 512) -> None:
        super().__init__()
        self.model = _Backbone(blocks, first)
        self.projection_head_vision = nn.ModuleDict({"projection": nn.Linear(self.model.width, joint, bias=False)})

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.model(images)
        project = self.projection_head_vision["projection"]
        pooled = project(F.normalize(features.mean((2, 3)), dim=-1))
        places = project(F.normalize(features, dim=1).permute(0, 2, 3, 1))
        return pooled, places.permute(0, 3, 1, 2)


class Flair(nn.Module):
    """Both towers and the scale, as the released file names them."""

    def __init__(self, image: nn.Module, text: nn.Module) -> None:
        super().__init__()
        self.vision_model, self.text_model = image, text
        self.logit_scale = nn.Parameter(torch.zeros(()))


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert the released file. Raises CheckpointMismatch, CheckpointUnsafe, ExportFailed."""
    source = checkpoint if checkpoint.is_dir() else checkpoint.parent
    file = weights_file(source) if checkpoint.is_dir() else checkpoint
    tensors = without(read_checkpoint(file), STALE)
    network = network_of(tensors, source)
    load_exactly(network, tensors)
    network.eval()
    words = tokenizer(source)

    def embed(phrases: Sequence[str]) -> Tensor:
        ids, mask = batch(phrases, words, longest=LONGEST_TEXT)
        with torch.no_grad():
            return network.text_model(ids, mask)

    save_vectors(class_vectors(SYSTEM, embed), folder)
    graphs = {"main": export_image(network.vision_model, SIZE, folder)}
    lines = scale_lines(network.logit_scale)
    card = complete_card(SYSTEM, folder, graphs, replacements=lines, files={"phrases": "phrases.npz"})
    return Imported(SYSTEM, file, card, tuple(graphs.values()), len(tensors))


def network_of(tensors: Mapping[str, Tensor], source: Path) -> Flair:
    """Network of the sizes the tensors have. Raises CheckpointMismatch."""
    joint = require(tensors, "text_model.projection_head_text.projection.weight", "FLAIR").shape[0]
    first = require(tensors, "vision_model.model.conv1.weight", "FLAIR").shape[0]
    image = FlairImage(resnet_blocks(tensors, "vision_model.model."), first, joint)
    return Flair(image, NormedProjectedText(bert_shape(source)[0], joint))
