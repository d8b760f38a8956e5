"""MedCLIP: the released folder to an image graph and one vector for each class. Swin-tiny or ResNet50, as the file has it.

The folder holds ``pytorch_model.bin`` as unpacked from the released archive, and beside it ``config.json``, ``vocab.txt`` and
``tokenizer_config.json`` of Bio_ClinicalBERT, which the archive does not hold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from models.export.checkpoint import load_exactly, read_checkpoint
from models.export.clinical_bert import STALE as STALE_POSITIONS
from models.export.clinical_bert import ProjectedText
from models.export.dual import class_vectors, count_blocks, export_image, require, save_vectors, scale_lines, without
from models.export.imported import Imported, complete_card
from models.export.resnet_network import ResNet
from models.export.swin_network import STALE as STALE_PLACES
from models.export.swin_network import Swin, SwinShape
from models.export.text_tower import batch, bert_shape, tokenizer, weights_file

SYSTEM = "medclip"
SIZE = 224
LONGEST_TEXT = 77
_PATCHES = "vision_model.model.embeddings.patch_embeddings.projection.weight"


class _SwinTower(nn.Module):
    """Pooled tokens through a projection; each token through it, too."""

    def __init__(self, shape: SwinShape, joint: int) -> None:
        super().__init__()
        self.model = Swin(shape)
        self.projection_head = nn.Linear(shape.out_width, joint, bias=False)
        self._side = (shape.size // shape.patch) >> (len(shape.depths) - 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.projection_head(self.model(images))
        return tokens.mean(1), tokens.transpose(1, 2).unflatten(-1, (self._side, self._side))


class _ResNetTower(nn.Module):
    """A ResNet whose ``fc`` is the projection."""

    def __init__(self, blocks: tuple[int, ...], first: int, joint: int) -> None:
        super().__init__()
        self.model = ResNet(blocks, first, joint)
        self.model.fc = nn.Linear(self.model.fc.in_features, joint, bias=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.model(images)
        patches = self.model.fc(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return patches.mean((2, 3)), patches


class MedClip(nn.Module):
    """Both towers and the scale, as the released file names them."""

    def __init__(self, image: nn.Module, text: nn.Module) -> None:
        super().__init__()
        self.vision_model, self.text_model = image, text
        self.logit_scale = nn.Parameter(torch.zeros(()))


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert the released folder.

    Parameters
    ----------
    checkpoint : Path
        The folder, or the weights in it.
    folder : Path
        Existing folder; gets ``main.onnx``, ``phrases.npz`` and ``model.toml``.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    source = checkpoint if checkpoint.is_dir() else checkpoint.parent
    file = weights_file(source) if checkpoint.is_dir() else checkpoint
    tensors = without(read_checkpoint(file), STALE_POSITIONS, STALE_PLACES)
    network = network_of(tensors, source)
    load_exactly(network, tensors)
    network.eval()
    words = tokenizer(source)
    padded: list[int] = []

    def embed(phrases: Sequence[str]) -> Tensor:
        ids, mask = batch(phrases, words, longest=LONGEST_TEXT)
        padded.append(ids.shape[1])
        with torch.no_grad():
            return network.text_model(ids, mask)

    save_vectors(class_vectors(SYSTEM, embed), folder)
    graphs = {"main": export_image(network.vision_model, SIZE, folder)}
    lines = scale_lines(network.logit_scale)
    lines["padded_tokens = []"] = f"padded_tokens = {json.dumps(padded)}"
    if isinstance(network.vision_model, _ResNetTower):
        lines['name = "MedCLIP (Swin-tiny)"'] = 'name = "MedCLIP (ResNet50)"'
    card = complete_card(SYSTEM, folder, graphs, replacements=lines, files={"phrases": "phrases.npz"})
    return Imported(SYSTEM, file, card, tuple(graphs.values()), len(tensors))


def network_of(tensors: Mapping[str, Tensor], source: Path) -> MedClip:
    """Network of the sizes the tensors have; the text tower's stand in ``config.json``.

    Raises
    ------
    CheckpointMismatch
    """
    joint = require(tensors, "text_model.projection_head.weight", "MedCLIP").shape[0]
    shape, _ = bert_shape(source)
    image = _swin(tensors, joint) if _PATCHES in tensors else _resnet(tensors, joint)
    return MedClip(image, ProjectedText(shape, joint))


def _swin(tensors: Mapping[str, Tensor], joint: int) -> _SwinTower:
    layers = "vision_model.model.encoder.layers."
    stages = {int(match[1]) for key in tensors if (match := re.match(rf"{re.escape(layers)}(\d+)\.", key))}
    table = "attention.self.relative_position_bias_table"
    depths = tuple(count_blocks(tensors, f"{layers}{n}.blocks.", table) for n in sorted(stages))
    tables = [require(tensors, f"{layers}{n}.blocks.0.{table}", "MedCLIP") for n in sorted(stages)]
    width, _, patch, _ = require(tensors, _PATCHES, "MedCLIP").shape
    window = (round(tables[0].shape[0] ** 0.5) + 1) // 2
    heads = tuple(each.shape[1] for each in tables)
    return _SwinTower(SwinShape(SIZE, patch, width, depths, heads, window), joint)


def _resnet(tensors: Mapping[str, Tensor], joint: int) -> _ResNetTower:
    first = require(tensors, "vision_model.model.conv1.weight", "MedCLIP").shape[0]
    return _ResNetTower(resnet_blocks(tensors, "vision_model.model."), first, joint)


def resnet_blocks(tensors: Mapping[str, Tensor], prefix: str) -> tuple[int, ...]:
    """Bottlenecks of each stage of a ResNet below ``prefix``."""
    counts = [count_blocks(tensors, f"{prefix}layer{n}.", "conv1.weight") for n in range(1, 5)]
    return tuple(count for count in counts if count)
