"""nnU-Net v2: a results folder to graphs, one a fold, and a card.

The folder is what training leaves (``plans.json``, ``dataset.json``, ``fold_N/checkpoint_final.pth``), with a ``card.toml``
beside it: who made the model and for what, which series it takes, what each label means in coded terms, and in which
orientation the images were that it was trained on. nnU-Net writes none of these down, and a guess would put left on the
right. ``models/export/cards/nnunet`` holds cards for known data sets to begin with.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.card import file_digest
from models.errors import CheckpointMismatch
from models.export.checkpoint import load_exactly, read_checkpoint
from models.export.graph_export import Exported, Recipe, export_graph
from models.export.imported import Imported, complete_card
from models.export.nnunet_network import NnUNet
from models.export.nnunet_plans import NnUNetPlans, read_plans

SYSTEM = "nnunet"
CARD = "card.toml"
_CHECKPOINT = "checkpoint_final.pth"


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert a results folder of nnU-Net v2.

    Parameters
    ----------
    checkpoint : Path
        ``…/DatasetNNN_Name/TRAINER__PLANS__CONFIGURATION`` with a ``card.toml``; the configuration is the name's last
        part. Every ``fold_*`` with a final checkpoint becomes a member of an ensemble whose logits are averaged.
    folder : Path
        Existing folder; gets ``main.onnx`` (``member_2.onnx`` …) and ``model.toml``.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    plans = read_plans(checkpoint, checkpoint.name.rsplit("__", 1)[-1])
    content = described(checkpoint, plans)
    files = sorted(checkpoint.glob(f"fold_*/{_CHECKPOINT}"))
    if not files:
        raise CheckpointMismatch(f"{checkpoint.name} has no fold_*/{_CHECKPOINT}")
    graphs: dict[str, Exported] = {}
    keys = 0
    for number, file in enumerate(files, start=1):
        name = "main" if number == 1 else f"member_{number}"
        tensors = read_checkpoint(file)
        network = NnUNet(plans.shape)
        load_exactly(network, {key.removeprefix("_orig_mod."): value for key, value in tensors.items()})
        graphs[name] = export_graph(network, recipe(plans), folder / f"{name}.onnx")
        keys = len(tensors)
    content["options"] = {**content["options"], **dense_options(plans, content, tuple(graphs))}
    digests = {file.parent.name: file_digest(file) for file in files}
    content["provenance"] = {**content.get("provenance", {}), "checkpoints_sha256": digests}
    card = complete_card(SYSTEM, folder, graphs, content=content)
    return Imported(SYSTEM, files[0], card, tuple(graphs.values()), keys)


def recipe(plans: NnUNetPlans) -> Recipe:
    """Windows to trace and compare with: one, then two at once."""
    generator = torch.Generator().manual_seed(0)
    size = (plans.shape.channels, *plans.patch)
    images = [_balls(size), torch.randn(2, *size, generator=generator), torch.randn(3, *size, generator=generator)]
    return Recipe(("image",), ("logits",), (images[1],), [(image,) for image in images[:2]], {"image": {0: "count"}})


def described(folder: Path, plans: NnUNetPlans) -> dict[str, Any]:
    """The content of ``card.toml``, held against the plans.

    Raises
    ------
    CheckpointMismatch
        It is missing, lacks the orientation, or does not name the inputs and labels that the plans have.
    """
    path = folder / CARD
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CheckpointMismatch(
            f"{CARD} beside plans.json cannot be read ({error}); it says which series the model takes, in which orientation "
            "it was trained, and what its labels mean; models/export/cards/nnunet has some to begin with"
        ) from error
    if "orientation" not in content.get("options", {}):
        raise CheckpointMismatch(f"{CARD}: options.orientation is missing: three letters, e.g. RAS")
    inputs = content.get("inputs", [])
    if len(inputs) != len(plans.channel_names):
        raise CheckpointMismatch(
            f"{CARD} names {len(inputs)} inputs; dataset.json has {', '.join(plans.channel_names)}"
        )
    for given, name in zip(inputs, plans.channel_names, strict=True):
        if (name.upper() == "CT") != (given.get("modality") == "CT"):
            raise CheckpointMismatch(f"{CARD}: input {given.get('role')} is {given.get('modality')}, trained on {name}")
    named = [_plain(str(label.get("name"))) for label in content.get("labels", [])]
    if named != [_plain(name) for name in plans.labels]:
        raise CheckpointMismatch(f"{CARD} must name the labels {', '.join(plans.labels)}, in that order")
    return content


def dense_options(plans: NnUNetPlans, content: Mapping[str, Any], members: tuple[str, ...]) -> dict[str, Any]:
    """``options`` of the card, as :class:`models.dense.options.DenseOptions` reads them."""
    channels = [
        {"role": given["role"], **channel} for given, channel in zip(content["inputs"], plans.channels, strict=True)
    ]
    return {
        "output": "dense",
        "order": list(plans.order),
        "spacing_mm": list(plans.spacing),
        "crop_to_nonzero": True,
        "channels": channels,
        "window": {"size": list(plans.patch), "overlap": 0.5, "blend": "gaussian", "rule": "nnunet"},
        "members": list(members),
        "combine": "mean_logits",
        "activation": "sigmoid" if plans.paint else "softmax",
        "paint": [{"output": output, "label": label} for output, label in plans.paint],
    }


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()


def _balls(size: tuple[int, ...]) -> Tensor:
    """An image (1, …) that packs well: it is kept as the known answer's input."""
    distance = torch.zeros(())
    for length in size[1:]:
        distance = distance[..., None] + torch.linspace(-3, 3, length).square()
    return (distance.round() % 4 - 1.5).expand(1, *size).contiguous()
