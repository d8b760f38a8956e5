"""MedSigLIP: the folder ``google/medsiglip-448`` (transformers' SigLIP layout) to an image graph and phrase vectors.

The folder holds ``model.safetensors``, ``config.json`` and ``tokenizer.json``; a folder that has only ``spiece.model`` is
refused, because its tokenizer would have to be guessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from models.errors import CheckpointMismatch
from models.export.checkpoint import read_checkpoint
from models.export.dual import class_vectors, export_image, save_vectors, scale_lines, without
from models.export.imported import Imported, complete_card
from models.export.text_tower import weights_file
from models.export.vit_layouts import siglip_text, siglip_vision
from models.export.vit_network import TextShape, TextTransformer, Vit, VitShape

SYSTEM = "medsiglip"
_STALE = "embeddings.position_ids"
_END = 1
"""SigLIP pads with its mark of the end, and the last position is what is pooled."""


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert the released folder. Raises CheckpointMismatch, CheckpointUnsafe, ExportFailed."""
    source = checkpoint if checkpoint.is_dir() else checkpoint.parent
    file = weights_file(source)
    tensors = without(read_checkpoint(file), _STALE)
    image, text = towers(source)
    load(tensors, image, text)
    save_vectors(class_vectors(SYSTEM, _Embedder(text, source)), folder)
    graphs = {"main": export_image(image, image.shape.size, folder)}
    # SigLIP's scale is not bounded, and a comparison of two phrases needs no bias.
    lines = scale_lines(tensors["logit_scale"].reshape(()), clamp=10.0)
    lines["size = 448"] = f"size = {image.shape.size}"
    card = complete_card(SYSTEM, folder, graphs, replacements=lines, files={"phrases": "phrases.npz"})
    return Imported(SYSTEM, file, card, tuple(graphs.values()), len(tensors))


def towers(source: Path) -> tuple[Vit, TextTransformer]:
    """Both towers by ``config.json``; what it leaves out is SigLIP's default.

    Raises
    ------
    CheckpointMismatch
        There is none, or it is no SigLIP's.
    """
    try:
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
        image, text = config["vision_config"], config["text_config"]
        return Vit(vision_shape(image)), TextTransformer(text_shape(text))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointMismatch(f"config.json does not describe a SigLIP: {error}") from error


def vision_shape(config: Mapping[str, Any]) -> VitShape:
    """Sizes of the image tower."""
    return VitShape(
        size=int(config.get("image_size", 224)),
        patch=int(config.get("patch_size", 16)),
        width=int(config.get("hidden_size", 768)),
        depth=int(config.get("num_hidden_layers", 12)),
        heads=int(config.get("num_attention_heads", 12)),
        hidden=int(config.get("intermediate_size", 3072)),
        joint=0,
        class_token=False,
        gelu="tanh",
    )


def text_shape(config: Mapping[str, Any]) -> TextShape:
    """Sizes of the text tower."""
    width = int(config.get("hidden_size", 768))
    return TextShape(
        vocabulary=int(config.get("vocab_size", 32000)),
        positions=int(config.get("max_position_embeddings", 64)),
        width=width,
        depth=int(config.get("num_hidden_layers", 12)),
        heads=int(config.get("num_attention_heads", 12)),
        hidden=int(config.get("intermediate_size", 3072)),
        joint=int(config.get("projection_size", width)),
        pooled="last",
        gelu="tanh",
        epsilon=1e-6,
        projection_bias=True,
    )


def load(tensors: Mapping[str, Tensor], image: Vit, text: TextTransformer) -> None:
    """Load both; scale and bias are the only further keys. Raises CheckpointMismatch."""
    rest = {key: value for key, value in tensors.items() if key not in ("logit_scale", "logit_bias")}
    if len(rest) + 2 != len(tensors):
        raise CheckpointMismatch("not a checkpoint of SigLIP: no logit_scale and logit_bias")
    visual = {key: value for key, value in rest.items() if key.startswith("vision_model.")}
    siglip_vision().load(image, visual)
    siglip_text().load(text, {key: value for key, value in rest.items() if key not in visual})
    image.eval()
    text.eval()


class _Embedder:
    """Phrases, lower-cased and stripped of punctuation as SigLIP was trained, padded to all positions."""

    def __init__(self, network: TextTransformer, source: Path) -> None:
        self._network = network
        try:
            self._words = Tokenizer.from_file(str(source / "tokenizer.json"))
        except Exception as error:  # the library raises bare exceptions
            raise CheckpointMismatch(f"tokenizer.json cannot be read: {str(error).splitlines()[0]}") from error
        self._words.no_padding()
        self._words.no_truncation()

    def __call__(self, phrases: Sequence[str]) -> Tensor:
        positions = self._network.shape.positions
        ids = torch.full((len(phrases), positions), _END, dtype=torch.int64)
        for row, phrase in enumerate(phrases):
            found = [each for each in self._words.encode(phrase).ids if each != _END][: positions - 1]
            ids[row, : len(found)] = torch.tensor(found)
        with torch.no_grad():
            return self._network(ids)
