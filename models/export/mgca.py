"""MGCA and ConVIRT as published with their text halves: ResNet50 and six layers of Bio_ClinicalBERT, for phrases.

As HKU-MedAI/MGCA@6445a90 trains them (mgca/models/backbones/encoder.py, med.py, mgca/configs/bert_config.json), which
yangzhou12/BenchX@9e6ebab repeats for ConVIRT (models/convirt). Two things there are easily done otherwise: the image is
enlarged to 299 pixels before the tower, and token types are handed over where positions are expected, so that every token
stands at position 0 in training as well as after it. The layers' cross-attention, the local heads and MGCA's prototypes,
which phrases do not need, are left. ``models.export.benchx`` takes the image tower alone, to train heads on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.errors import CheckpointMismatch
from models.export.bert_network import Bert, BertShape
from models.export.checkpoint import load_exactly, read_checkpoint
from models.export.dual import class_vectors, count_blocks, export_image, require, save_vectors
from models.export.imported import Imported, complete_card
from models.export.medclip import resnet_blocks
from models.export.released_folder import part
from models.export.resnet_network import ResNet
from models.export.text_tower import batch, tokenizer

SYSTEM = "mgca"
SIZE, CROP, ENLARGED = 256, 224, 299
LONGEST_TEXT = 112
_HEADS = 12
_STALE = "position_ids"


@dataclass(frozen=True, slots=True)
class Names:
    """Where the halves lie in a file, what else does, and what the model is called."""

    image: str
    text: str
    left: tuple[str, ...]
    title: str


TOWERS = {
    "convirt-phrases": Names("img_encoder.", "text_encoder.", (), "ConVIRT"),
    "mgca-phrases": Names(
        "img_encoder_q.",
        "text_encoder_q.",
        ("patch_local_atten_layer.", "word_local_atten_layer.", "prototype_layer."),
        "MGCA (ResNet50)",
    ),
}


class GlobalHead(nn.Module):
    """``GlobalEmbedding``: two linear layers, normalised by what training saw."""

    def __init__(self, inward: int, hidden: int, joint: int) -> None:
        super().__init__()
        self.head = nn.Sequential(
            nn.Linear(inward, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, joint),
            nn.BatchNorm1d(joint, affine=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


class ImageHalf(nn.Module):
    """Image (n, 3, 256, 256) to vectors (n, joint): the middle, enlarged, through the tower, pooled by the mean."""

    def __init__(self, blocks: Sequence[int], first: int, hidden: int, joint: int) -> None:
        super().__init__()
        self.model = ResNet(blocks, first)
        width = self.model.fc.in_features
        self.model.fc = nn.Identity()  # type: ignore[assignment]
        self.global_embed = GlobalHead(width, hidden, joint)

    def forward(self, pixels: Tensor) -> Tensor:
        edge = (SIZE - CROP) // 2
        middle = pixels[:, :, edge : edge + CROP, edge : edge + CROP]
        enlarged = F.interpolate(middle, (ENLARGED, ENLARGED), mode="bilinear", align_corners=True)
        return self.global_embed(self.model(enlarged).mean((2, 3)))


class _Embeddings(nn.Module):
    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(shape.vocabulary, shape.width)
        self.position_embeddings = nn.Embedding(shape.positions, shape.width)
        self.LayerNorm = nn.LayerNorm(shape.width, eps=shape.epsilon)

    def forward(self, ids: Tensor) -> Tensor:
        return self.LayerNorm(self.word_embeddings(ids) + self.position_embeddings.weight[0])


class TextHalf(nn.Module):
    """Token ids and mask to vectors (n, joint): the class token's last state."""

    def __init__(self, shape: BertShape, hidden: int, joint: int) -> None:
        super().__init__()
        self.model = Bert(shape)
        self.model.embeddings = _Embeddings(shape)  # type: ignore[assignment]
        self.global_embed = GlobalHead(shape.width, hidden, joint)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.global_embed(self.model(ids, mask)[-1][:, 0])


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert a released file, beside which Bio_ClinicalBERT's ``vocab.txt`` lies.

    Parameters
    ----------
    checkpoint : Path
        ``MGCA-resnet50.ckpt`` or ``ConVIRT.pth``, as BenchX publishes them.
    folder : Path
        Existing folder; gets ``main.onnx``, ``phrases.npz`` and ``model.toml``.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    tensors = read_checkpoint(checkpoint)
    name = halves_of(tensors)
    names = TOWERS[name]
    used = used_tensors(tensors, names)
    image, text = networks(used, names, checkpoint.parent)
    load_exactly(image, part(used, names.image))
    load_exactly(text, part(used, names.text))
    image.eval()
    text.eval()
    words = tokenizer(checkpoint.parent)

    def embed(phrases: Sequence[str]) -> Tensor:
        with torch.no_grad():
            return text(*batch(phrases, words, longest=LONGEST_TEXT))

    save_vectors(class_vectors(SYSTEM, embed), folder)
    graphs = {"main": export_image(image, SIZE, folder, patches=False)}
    replacements = {'id = "mgca-phrases"': f'id = "{name}"', 'name = "MGCA (ResNet50)"': f'name = "{names.title}"'}
    card = complete_card(SYSTEM, folder, graphs, replacements=replacements, files={"phrases": "phrases.npz"})
    return Imported(name, checkpoint, card, tuple(graphs.values()), len(used), len(tensors) - len(used))


def halves_of(tensors: Mapping[str, Tensor]) -> str:
    """Which of :data:`TOWERS` a file is of.

    Raises
    ------
    CheckpointMismatch
        None, or the text half is missing.
    """
    for name, names in TOWERS.items():
        if any(key.startswith(names.image) for key in tensors):
            if not any(key.startswith(names.text) for key in tensors):
                raise CheckpointMismatch(
                    f"the file holds no text half ({names.text}…): phrases need it; `ainode models import convirt` or "
                    "`benchx` takes the image tower alone"
                )
            return name
    raise CheckpointMismatch(f"not MGCA or ConVIRT: no {' or '.join(each.image for each in TOWERS.values())}")


def used_tensors(tensors: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """What phrases need of a file; the rest must be parts that are known.

    Raises
    ------
    CheckpointMismatch
        Something else is in it.
    """
    left = (f"{names.image}local_embed.", f"{names.text}local_embed.", *names.left)
    rest = {key: value for key, value in tensors.items() if not key.startswith(left)}
    unknown = sorted(key for key in rest if not key.startswith((names.image, names.text)))
    if unknown:
        raise CheckpointMismatch(f"the checkpoint has another layout; unexpected: {', '.join(unknown[:5])}")
    return {key: value for key, value in rest.items() if ".crossattention." not in key and not key.endswith(_STALE)}


def networks(tensors: Mapping[str, Tensor], names: Names, folder: Path) -> tuple[ImageHalf, TextHalf]:
    """Networks of the sizes the tensors have; heads stand in ``bert_config.json`` where they are not twelve.

    Raises
    ------
    CheckpointMismatch
    """
    image, text, title = names.image, names.text, names.title
    first = require(tensors, f"{image}model.conv1.weight", title).shape[0]
    hidden, _ = require(tensors, f"{image}global_embed.head.0.weight", title).shape
    joint, _ = require(tensors, f"{image}global_embed.head.3.weight", title).shape
    words, width = require(tensors, f"{text}model.embeddings.word_embeddings.weight", title).shape
    inner = require(tensors, f"{text}model.encoder.layer.0.intermediate.dense.weight", title).shape[0]
    places = require(tensors, f"{text}model.embeddings.position_embeddings.weight", title).shape[0]
    layers = count_blocks(tensors, f"{text}model.encoder.layer.", "output.LayerNorm.weight")
    shape = BertShape(words, width, layers, _heads(folder), inner, places)
    second = require(tensors, f"{text}global_embed.head.0.weight", title).shape[0]
    return ImageHalf(resnet_blocks(tensors, f"{image}model."), first, hidden, joint), TextHalf(shape, second, joint)


def _heads(folder: Path) -> int:
    stated = folder / "bert_config.json"
    if not stated.is_file():
        return _HEADS
    try:
        return int(json.loads(stated.read_text(encoding="utf-8"))["num_attention_heads"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointMismatch(f"bert_config.json states no number of heads: {error}") from error
