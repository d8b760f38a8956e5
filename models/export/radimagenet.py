"""RadImageNet's backbones: ResNet50, DenseNet121 or Inception v3, without a head, to one graph of embeddings and a card.

The published PyTorch files number the children of torchvision's networks: ``backbone.0.weight`` is ``conv1.weight``. Which
network a file is of is told by its keys. No classifier was released; `ainode models train-head` makes one from a site's
own labelled images. The two preprocessings that the project's Keras and PyTorch code contradict each other with both stand
in the card.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.errors import CheckpointMismatch
from models.export.checkpoint import load_exactly, read_checkpoint
from models.export.densenet_network import DenseNet, DenseNetShape
from models.export.graph_export import Recipe, export_graph
from models.export.imported import Imported, complete_card
from models.export.inception_network import InceptionV3
from models.export.resnet_network import ResNet

SYSTEM = "radimagenet"
_SIZE = 224
_PREFIX = "backbone."

_RESNET = {0: "conv1", 1: "bn1", 4: "layer1", 5: "layer2", 6: "layer3", 7: "layer4"}
_DENSENET = {0: "features"}
_INCEPTION = {
    0: "Conv2d_1a_3x3",
    1: "Conv2d_2a_3x3",
    2: "Conv2d_2b_3x3",
    4: "Conv2d_3b_1x1",
    5: "Conv2d_4a_3x3",
    **{
        7 + n: f"Mixed_{name}"
        for n, name in enumerate(("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"))
    },
}
"""Number of the child → its name in torchvision."""

_TITLES = {"resnet50": "ResNet50", "densenet121": "DenseNet121", "inceptionv3": "Inception v3"}


class Backbone(nn.Module):
    """Image (n, 3, size, size) to its embedding (n, width): features, ReLU, mean over the image."""

    def __init__(self, name: str, network: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        made = self.network(image)
        return made if self.name == "densenet121" else F.relu(made).mean((2, 3))

    def published(self) -> dict[str, Tensor]:
        """Its tensors under the published keys."""
        numbers = {name: number for number, name in _children(self.name).items()}
        made = {}
        for key, value in self.network.state_dict().items():
            child, _, rest = key.partition(".")
            made[f"{_PREFIX}{numbers[child]}.{rest}"] = value
        return made


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert ``ResNet50.pt``, ``DenseNet121.pt`` or ``InceptionV3.pt``.

    Parameters
    ----------
    checkpoint : Path
        State dict with the published keys (``backbone.N.…``). Sizes are taken from the tensors.
    folder : Path
        Existing folder; gets ``main.onnx`` and ``model.toml``.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    tensors = read_checkpoint(checkpoint)
    backbone = backbone_of(tensors)
    load_exactly(backbone.network, _renamed(tensors, backbone.name))
    generator = torch.Generator().manual_seed(0)
    images = [_ramp(), *(torch.rand(n, 3, _SIZE, _SIZE, generator=generator) * 2 - 1 for n in (2, 3))]
    recipe = Recipe(("image",), ("embedding",), (images[1],), [(image,) for image in images], {"image": {0: "count"}})
    graphs = {"main": export_graph(backbone, recipe, folder / "main.onnx")}
    title = _TITLES[backbone.name]
    replacements = {
        'id = "radimagenet-resnet50"': f'id = "radimagenet-{backbone.name}"',
        'name = "RadImageNet ResNet50"': f'name = "RadImageNet {title}"',
    }
    card = complete_card(SYSTEM, folder, graphs, replacements=replacements)
    return Imported(SYSTEM, checkpoint, card, tuple(graphs.values()), len(tensors))


def backbone_of(tensors: Mapping[str, Tensor]) -> Backbone:
    """The network a state dict is of, without its weights.

    Raises
    ------
    CheckpointMismatch
        It is of none of the three.
    """
    if "backbone.0.conv0.weight" in tensors:
        return Backbone("densenet121", _densenet(tensors))
    if "backbone.0.conv.weight" in tensors:
        return Backbone("inceptionv3", InceptionV3(tensors["backbone.0.conv.weight"].shape[0]))
    if "backbone.0.weight" in tensors:
        blocks = [
            len({match[1] for key in tensors if (match := re.match(rf"backbone\.{stage}\.(\d+)\.", key))})
            for stage in (4, 5, 6, 7)
        ]
        network = ResNet(tuple(n for n in blocks if n), tensors["backbone.0.weight"].shape[0])
        network.fc = nn.Identity()  # type: ignore[assignment]
        return Backbone("resnet50", network)
    raise CheckpointMismatch("not a RadImageNet backbone: neither ResNet50, DenseNet121 nor Inception v3 by its keys")


def _densenet(tensors: Mapping[str, Tensor]) -> DenseNet:
    try:
        first, channels = tensors["backbone.0.conv0.weight"].shape[:2]
        growth = tensors["backbone.0.denseblock1.denselayer1.conv2.weight"].shape[0]
    except KeyError as error:
        raise CheckpointMismatch(f"not a DenseNet: no {error}") from error
    blocks: dict[int, set[int]] = {}
    for key in tensors:
        if match := re.match(r"backbone\.0\.denseblock(\d+)\.denselayer(\d+)\.", key):
            blocks.setdefault(int(match[1]), set()).add(int(match[2]))
    counts = tuple(len(blocks[number]) for number in sorted(blocks))
    network = DenseNet(DenseNetShape(channels, 1, growth, counts, first))
    network.classifier = nn.Identity()  # type: ignore[assignment]
    return network


def _children(name: str) -> dict[int, str]:
    return {"resnet50": _RESNET, "densenet121": _DENSENET, "inceptionv3": _INCEPTION}[name]


def _renamed(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors under torchvision's keys; keys that are none stay as they are, to be refused."""
    children = _children(name)
    made = {}
    for key, value in tensors.items():
        match = re.fullmatch(r"backbone\.(\d+)\.(.+)", key)
        known = match is not None and int(match[1]) in children
        made[f"{children[int(match[1])]}.{match[2]}" if match and known else key] = value
    return made


def _ramp() -> Tensor:
    steps = torch.linspace(-1, 1, _SIZE)
    return ((steps[:, None] + steps[None, :]) / 2).expand(1, 3, _SIZE, _SIZE).contiguous()
