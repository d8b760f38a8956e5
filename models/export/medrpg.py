"""MedRPG: the released checkpoint to one graph that looks for the phrases of the card, and a card.

Beside the file lie ``config.json`` and ``vocab.txt`` of ``bert-base-uncased``, which it was trained from. The phrases are
read by the text half when the model is imported, so that no text model runs in the node.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from models.errors import CheckpointMismatch
from models.export.checkpoint import load_exactly, read_checkpoint
from models.export.clinical_bert import STALE
from models.export.dual import count_blocks, require, without
from models.export.graph_export import Recipe, export_graph
from models.export.imported import CARDS_FOLDER, Imported, complete_card
from models.export.medclip import resnet_blocks
from models.export.medrpg_network import STRIDE, WORDS, Grounder, GrounderShape
from models.export.text_tower import batch, bert_shape, tokenizer

SYSTEM = "medrpg"
_LAYERS = "visumodel.transformer.encoder.layers."
_FUSION = "vl_transformer.encoder.layers."


class Looker(nn.Module):
    """Image (1, 3, size, size) and padding (1, size, size) to boxes (1, phrases, 4)."""

    def __init__(self, network: Grounder, ids: Tensor, mask: Tensor) -> None:
        super().__init__()
        self.network = network
        with torch.no_grad():
            self.text = network.read(ids, mask)
        self.unused = 1.0 - mask.to(torch.float32)

    def forward(self, image: Tensor, padding: Tensor) -> Tensor:
        return self.network.ground(image, padding, self.text, self.unused)[None]


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert the released file. Raises CheckpointMismatch, CheckpointUnsafe, ExportFailed."""
    source = checkpoint.parent
    tensors = without(read_checkpoint(checkpoint), STALE)
    network = Grounder(shape_of(tensors, source))
    load_exactly(network, tensors)
    network.eval()
    ids, mask = batch([phrase.lower() for phrase in phrases()], tokenizer(source), longest=WORDS, padded_to=WORDS)
    size = STRIDE * network.shape.side
    compared = [(_image(size, seed), _padding(size, seed)) for seed in range(3)]
    recipe = Recipe(("image", "padding"), ("boxes",), compared[0], compared, legacy_first=True)
    graphs = {"main": export_graph(Looker(network, ids, mask), recipe, folder / "main.onnx")}
    card = complete_card(SYSTEM, folder, graphs, replacements={"size = 640": f"size = {size}"})
    return Imported(SYSTEM, checkpoint, card, tuple(graphs.values()), len(tensors))


def phrases() -> Sequence[str]:
    """What the card's template looks for, in the order of its outputs."""
    options = tomllib.loads((CARDS_FOLDER / f"{SYSTEM}.toml").read_text(encoding="utf-8"))["options"]
    return [each["concept"]["meaning"] for each in sorted(options["targets"], key=lambda each: each["output"])]


def shape_of(tensors: Mapping[str, Tensor], source: Path) -> GrounderShape:
    """Sizes of the tensors; those of the text half stand in ``config.json``.

    Raises
    ------
    CheckpointMismatch
        It is another network, or for phrases or a grid of another form.
    """
    rows, width = require(tensors, "vl_pos_embed.weight", "MedRPG").shape
    side = round(max(rows - 1 - WORDS, 0) ** 0.5)
    if side < 1 or 1 + WORDS + side**2 != rows:
        raise CheckpointMismatch(f"vl_pos_embed has {rows} rows: not those of {WORDS} words and a square grid")
    body = "visumodel.backbone.0.body."
    hidden = [require(tensors, f"{prefix}0.linear1.weight", "MedRPG").shape[0] for prefix in (_LAYERS, _FUSION)]
    layers = [count_blocks(tensors, prefix, "linear1.weight") for prefix in (_LAYERS, _FUSION)]
    return GrounderShape(
        blocks=resnet_blocks(tensors, body),
        first=require(tensors, f"{body}conv1.weight", "MedRPG").shape[0],
        width=width,
        image=(hidden[0], layers[0]),
        fusion=(hidden[1], layers[1]),
        side=side,
        text=bert_shape(source)[0],
    )


def _image(size: int, seed: int) -> Tensor:
    return (
        torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(seed))
        * (1 - _padding(size, seed))[:, None]
    )


def _padding(size: int, seed: int) -> Tensor:
    """None, at both sides, above and below."""
    padding, edge = torch.zeros(1, size, size), size // 5
    if seed == 1:
        padding[:, :, :edge] = padding[:, :, -edge:] = 1
    elif seed == 2:
        padding[:, :edge] = padding[:, -edge:] = 1
    return padding
