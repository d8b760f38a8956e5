"""ResNet50 image towers that BenchX publishes (ConVIRT, GLoRIA, MGCA) to one graph of embeddings and a card.

Which of them a file is of is told by its prefix. As BenchX uses them (yangzhou12/BenchX@0151889: unifier/blocks/vision/
visual_encoder.py), the tower below that prefix is everything that is read, without its classifier, pooled by the mean; the
text halves, which pretraining alone needs, are left. It finds nothing by itself: `ainode models train-head` makes a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from models.errors import CheckpointMismatch
from models.export.checkpoint import load_exactly, read_checkpoint
from models.export.graph_export import Recipe, export_graph
from models.export.imported import Imported, complete_card
from models.export.medclip import resnet_blocks
from models.export.released_folder import part
from models.export.resnet_network import ResNet

SYSTEM = "benchx"
SIZE = 224
TOWERS = {
    "convirt": ("img_encoder.model.", "ConVIRT"),
    "gloria": ("gloria.img_encoder.model.", "GLoRIA"),
    "mgca-resnet50": ("img_encoder_q.model.", "MGCA (ResNet50)"),
}
"""Where the tower lies in the file, and its name (config/classification/RSNA/*.yml; models/builders.py)."""
_CLASSIFIER = ("fc.weight", "fc.bias", "head.weight", "head.bias")


class Tower(nn.Module):
    """Image (n, 3, size, size) to its embedding (n, width): the mean of the last stage's features."""

    def __init__(self, blocks: tuple[int, ...] = (3, 4, 6, 3), first: int = 64) -> None:
        super().__init__()
        self.network = ResNet(blocks, first)
        self.network.fc = nn.Identity()  # type: ignore[assignment]

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image).mean((2, 3))


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert a released file.

    Parameters
    ----------
    checkpoint : Path
        ``ConVIRT.pth``, ``GLoRIA.ckpt`` or ``MGCA-resnet50.ckpt``.
    folder : Path
        Existing folder; gets ``main.onnx`` and ``model.toml``.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    tensors = read_checkpoint(checkpoint)
    name = tower_of(tensors)
    prefix, title = TOWERS[name]
    own = {key: value for key, value in part(tensors, prefix).items() if key not in _CLASSIFIER}
    if "conv1.weight" not in own:
        raise CheckpointMismatch(f"not a ResNet50 of {title}: no {prefix}conv1.weight")
    tower = Tower(resnet_blocks(own, ""), own["conv1.weight"].shape[0])
    load_exactly(tower.network, own)
    generator = torch.Generator().manual_seed(0)
    images = [_ramp(), *(torch.randn(n, 3, SIZE, SIZE, generator=generator) for n in (2, 3))]
    recipe = Recipe(
        ("image",),
        ("embedding",),
        (images[1],),
        [(image,) for image in images],
        {"image": {0: "count"}},
        legacy_first=True,
    )
    graphs = {"main": export_graph(tower, recipe, folder / "main.onnx")}
    replacements = {'id = "convirt"': f'id = "{name}"', 'name = "ConVIRT"': f'name = "{title}"'}
    card = complete_card(SYSTEM, folder, graphs, replacements=replacements)
    return Imported(name, checkpoint, card, tuple(graphs.values()), len(own), len(tensors) - len(own))


def tower_of(tensors: Mapping[str, Tensor]) -> str:
    """Which of :data:`TOWERS` a file is of.

    Raises
    ------
    CheckpointMismatch
        None of them, or of more than one.
    """
    found = [name for name, (prefix, _) in TOWERS.items() if any(key.startswith(prefix) for key in tensors)]
    if len(found) != 1:
        raise CheckpointMismatch(
            f"not one tower of BenchX: keys begin with none or several of {', '.join(p for p, _ in TOWERS.values())}"
        )
    return found[0]


def _ramp() -> Tensor:
    steps = torch.linspace(-2, 2, SIZE)
    return ((steps[:, None] + steps[None, :]) / 2).expand(1, 3, SIZE, SIZE).contiguous()
