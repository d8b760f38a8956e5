"""KnoBo: a CLIP (ViT-L/14) whose cosines with a bank of concepts a linear layer joins to classes.

The folder holds ``open_clip_pytorch_model.bin`` and ``tokenizer.json`` of ``yyupenn/whyxrayclip``, the bank as ``concepts.txt``
(one phrase a line), and ``head.pt``: ``linear.weight`` and ``linear.bias`` of a head trained on those cosines. No such head
is published: a site trains it, in the order of the classes in the card.
"""

from __future__ import annotations

from pathlib import Path

import torch

from models.errors import CheckpointMismatch
from models.export.checkpoint import read_checkpoint
from models.export.clinical_bert import STALE
from models.export.dual import Vectors, save_vectors, scale_lines, template, without
from models.export.imported import Imported, complete_card
from models.export.open_clip import SCALE, Embedder, embedder, export_tower, load_towers, size_lines, towers, weights_of
from models.image_text_heads import BIAS, CONCEPTS, WEIGHT

SYSTEM = "knobo"
_CONTEXT, _SIZE = 77, 224
HEAD_FILE, CONCEPTS_FILE = "head.pt", "concepts.txt"


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert the folder. Raises CheckpointMismatch, CheckpointUnsafe, ExportFailed."""
    file = weights_of(checkpoint)
    tensors = without(read_checkpoint(file), STALE)
    image, text = towers(tensors, file.parent, gelu="exact")
    load_towers(tensors, image, text)
    save_vectors(bottleneck(file.parent, embedder(text.network, file.parent, _CONTEXT)), folder)
    graphs = {"main": export_tower(image.network, folder)}
    lines = scale_lines(tensors[SCALE]) | size_lines(image.network, _SIZE)
    card = complete_card(SYSTEM, folder, graphs, replacements=lines, files={"phrases": "phrases.npz"})
    return Imported(SYSTEM, file, card, tuple(graphs.values()), len(tensors) + 2)


def bottleneck(source: Path, embed: Embedder) -> Vectors:
    """Vectors of the concepts and the layer behind them.

    Raises
    ------
    CheckpointMismatch
        There is no bank or no head, or they do not fit each other or the card.
    """
    for name in (CONCEPTS_FILE, HEAD_FILE):
        if not (source / name).is_file():
            raise CheckpointMismatch(f"the folder has no {name}: a site trains the head on its bank of concepts")
    lines = (source / CONCEPTS_FILE).read_text(encoding="utf-8").splitlines()
    concepts = [line.strip() for line in lines if line.strip()]
    head = read_checkpoint(source / HEAD_FILE)
    if set(head) != {"linear.weight", "linear.bias"}:
        raise CheckpointMismatch(
            f"{HEAD_FILE} holds {', '.join(sorted(head)[:5])}; linear.weight and linear.bias belong there"
        )
    classes = len(template(SYSTEM)["options"]["classes"])
    if tuple(head["linear.weight"].shape) != (classes, len(concepts)) or tuple(head["linear.bias"].shape) != (classes,):
        shape = tuple(head["linear.weight"].shape)
        raise CheckpointMismatch(f"{HEAD_FILE} is {shape}; card and bank need ({classes}, {len(concepts)})")
    unit = torch.nn.functional.normalize(embed(concepts), dim=-1)
    return {WEIGHT: head["linear.weight"].numpy(), BIAS: head["linear.bias"].numpy(), CONCEPTS: unit.numpy()}
