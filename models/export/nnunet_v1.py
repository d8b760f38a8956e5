"""nnU-Net v1: a results folder to graphs, one a fold, and a card; DeepISLES' SEALS is such a folder.

The folder is what training left (``fold_N/model_final_checkpoint.model``), with a ``card.toml`` beside it as for
:mod:`models.export.nnunet`. The weights are read as tensors only. ``plans.pkl`` is a pickle of objects and is never read:
write it as ``plans.json`` once, where you trust the file (docs/models.md). The network is read from the tensors; the plans say
patch, spacing, axes and normalisation.

Sources: MIC-DKFZ/nnUNet@b8f30c9 nnunet/network_architecture/generic_UNet.py, nnunet/preprocessing/preprocessing.py.
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
from models.export.graph_export import Exported, export_graph
from models.export.imported import Imported, complete_card
from models.export.nnunet import CARD, dense_options, described, recipe
from models.export.nnunet_network import NnUNet, NnUNetShape
from models.export.nnunet_plans import NnUNetPlans, read_json

SYSTEM = "nnunet-v1"
_CHECKPOINT = "model_final_checkpoint.model"
_ENCODER = re.compile(r"conv_blocks_context\.(\d+)(?:\.([01]))?\.blocks\.(\d+)\.(conv|instnorm)\.(weight|bias)")
_DECODER = re.compile(r"conv_blocks_localization\.(\d+)\.([01])\.blocks\.(\d+)\.(conv|instnorm)\.(weight|bias)")
_UPWARDS = re.compile(r"tu\.(\d+)\.weight")
_LOGITS = re.compile(r"seg_outputs\.(\d+)\.(weight|bias)")
_PARTS = {"conv": "conv", "instnorm": "norm"}


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert a results folder of nnU-Net v1.

    Parameters
    ----------
    checkpoint : Path
        ``…/TaskNNN_Name/TRAINER__PLANS`` of the configuration 3d_fullres, with ``plans.json`` and ``card.toml``. Every
        ``fold_*`` with a final checkpoint becomes a member of an ensemble whose probabilities are averaged.
    folder : Path
        Existing folder; gets ``main.onnx`` (``member_2.onnx`` …) and ``model.toml``.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    files = sorted(checkpoint.glob(f"fold_*/{_CHECKPOINT}"))
    if not files:
        raise CheckpointMismatch(f"{checkpoint.name} has no fold_*/{_CHECKPOINT}")
    graphs: dict[str, Exported] = {}
    content: dict[str, Any] = {}
    keys = 0
    for number, file in enumerate(files, start=1):
        name = "main" if number == 1 else f"member_{number}"
        tensors = read_checkpoint(file)
        network = network_of(tensors)
        plans = read_plans(checkpoint, network.shape)
        content = content or described(checkpoint, plans)
        graphs[name] = export_graph(network.eval(), recipe(plans), folder / f"{name}.onnx")
        keys = len(tensors)
    options = {**dense_options(plans, content, tuple(graphs)), "combine": "mean_probability"}
    content["options"] = {**content["options"], **options}
    digests = {file.parent.name: file_digest(file) for file in files}
    content["provenance"] = {**content.get("provenance", {}), "checkpoints_sha256": digests}
    card = complete_card(SYSTEM, folder, graphs, content=content)
    return Imported(SYSTEM, files[0], card, tuple(graphs.values()), keys)


def network_of(tensors: Mapping[str, Tensor]) -> NnUNet:
    """The network of a state dict, with its weights.

    Raises
    ------
    CheckpointMismatch
        It is not the state dict of a Generic_UNet with strided and transposed convolutions, and nothing else.
    """
    own = renamed(tensors)
    network = NnUNet(shape_of(own))
    state = {key: own.get(canonical(key)) for key in network.state_dict()}
    for key, value in network.state_dict().items():
        # Version 1 has no bias where it goes upwards and mostly none at the logits.
        if state[key] is None and re.fullmatch(r"decoder\.(transpconvs|seg_layers)\.\d+\.bias", key):
            state[key] = torch.zeros_like(value)
    load_exactly(network, {key: value for key, value in state.items() if value is not None})
    return network


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the names that version 2 gives the same parameters.

    Raises
    ------
    CheckpointMismatch
        A key is none of version 1's.
    """
    first = _first_counts(tensors)
    made = {}
    for key, value in tensors.items():
        if match := _ENCODER.fullmatch(key):
            stage, half, block, part, kind = match.groups()
            number = int(block) + (first[f"conv_blocks_context.{stage}"] if half == "1" else 0)
            name = f"encoder.stages.{stage}.0.convs.{number}.{_PARTS[part]}.{kind}"
        elif match := _DECODER.fullmatch(key):
            stage, half, block, part, kind = match.groups()
            number = int(block) + (first[f"conv_blocks_localization.{stage}"] if half == "1" else 0)
            name = f"decoder.stages.{stage}.convs.{number}.{_PARTS[part]}.{kind}"
        elif match := _UPWARDS.fullmatch(key):
            name = f"decoder.transpconvs.{match[1]}.weight"
        elif match := _LOGITS.fullmatch(key):
            name = f"decoder.seg_layers.{match[1]}.{match[2]}"
        else:
            raise CheckpointMismatch(f"not a Generic_UNet of nnU-Net v1: it has {key}")
        made[name] = value
    return made


def canonical(key: str) -> str:
    """One name for a parameter that version 2 names several times."""
    key = key.removeprefix("decoder.") if key.startswith("decoder.encoder.") else key
    return key.replace(".all_modules.0.", ".conv.").replace(".all_modules.1.", ".norm.")


def shape_of(own: Mapping[str, Tensor]) -> NnUNetShape:
    """Sizes that tensors, under version 2's names, have. Raises CheckpointMismatch."""
    try:
        stages = _count(own, r"encoder\.stages\.(\d+)\.")
        encoder = [own[f"encoder.stages.{n}.0.convs.0.conv.weight"] for n in range(stages)]
        decoder = [own[f"decoder.stages.{n}.convs.0.conv.weight"] for n in range(stages - 1)]
        upwards = [own[f"decoder.transpconvs.{n}.weight"] for n in range(stages - 1)]
        classes = own[f"decoder.seg_layers.{stages - 2}.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise CheckpointMismatch(f"not a Generic_UNet of nnU-Net v1: {error} is missing") from error
    axes = encoder[0].ndim - 2
    return NnUNetShape(
        kind="plain",
        channels=encoder[0].shape[1],
        classes=classes,
        features=tuple(each.shape[0] for each in encoder),
        kernels=tuple(tuple(each.shape[2:]) for each in encoder),
        strides=((1,) * axes, *(tuple(each.shape[2:]) for each in reversed(upwards))),
        encoder_blocks=tuple(_count(own, rf"encoder\.stages\.{n}\.0\.convs\.(\d+)\.") for n in range(stages)),
        decoder_blocks=tuple(_count(own, rf"decoder\.stages\.{n}\.convs\.(\d+)\.") for n in range(stages - 1)),
        decoder_kernels=tuple(tuple(each.shape[2:]) for each in decoder),
    )


def read_plans(folder: Path, shape: NnUNetShape) -> NnUNetPlans:
    """What ``plans.json`` says of the finest stage, and the card of the labels.

    Raises
    ------
    CheckpointMismatch
        A key is missing, or says something this converter does not know, or what the tensors deny.
    """
    plans, card = read_json(folder / "plans.json"), folder / CARD
    try:
        stages = plans["plans_per_stage"]
        stage = stages[max(stages, key=int)]
        names = plans["modalities"]
        if len(names) != shape.channels or int(plans["num_classes"]) + 1 != shape.classes:
            raise CheckpointMismatch("plans.json has other channels or classes than the checkpoint")
        strides = tuple(tuple(int(k) for k in each) for each in stage["pool_op_kernel_sizes"])
        if strides != shape.strides[1:]:
            raise CheckpointMismatch(
                "plans.json goes down by other steps than the checkpoint: of another configuration"
            )
        order = plans["transpose_forward"]
        return NnUNetPlans(
            shape=shape,
            patch=tuple(int(each) for each in stage["patch_size"]),
            spacing=tuple(float(each) for each in stage["current_spacing"]),
            order=(int(order[0]), int(order[1]), int(order[2])),
            channels=tuple(_channel(plans, str(n)) for n in range(shape.channels)),
            channel_names=tuple(str(names[key]) for key in sorted(names, key=int)),
            labels=_labels(card, shape.classes - 1),
            paint=(),
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise CheckpointMismatch(f"plans.json: {type(error).__name__}: {error}") from error


def _channel(plans: Mapping[str, Any], number: str) -> dict[str, Any]:
    scheme = plans["normalization_schemes"][number]
    if scheme == "nonCT":
        return {"normalise": "zscore_mask" if plans["use_mask_for_norm"][number] else "zscore"}
    if scheme == "CT":
        found = plans["dataset_properties"]["intensityproperties"][number]
        numbers = {"low": "percentile_00_5", "high": "percentile_99_5", "mean": "mean", "spread": "sd"}
        return {"normalise": "clip_standardise", **{name: float(found[key]) for name, key in numbers.items()}}
    if scheme == "noNorm":
        return {"normalise": "none"}
    raise CheckpointMismatch(f"normalisation {scheme} is not known")


def _labels(card: Path, count: int) -> tuple[str, ...]:
    """Names from the card: version 1 keeps none. A card that cannot be read is refused by whoever reads the rest of it."""
    try:
        named = tuple(str(each["name"]) for each in tomllib.loads(card.read_text(encoding="utf-8")).get("labels", []))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return ()
    if len(named) != count:
        raise CheckpointMismatch(f"{CARD} names {len(named)} labels, the checkpoint has {count}")
    return named


def _first_counts(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Blocks in the first half of each stage that has two."""
    counts: dict[str, int] = {}
    for key in tensors:
        if match := re.match(r"(conv_blocks_(?:context|localization)\.\d+)\.0\.blocks\.(\d+)\.", key):
            counts[match[1]] = max(counts.get(match[1], 0), int(match[2]) + 1)
    return counts


def _count(own: Mapping[str, Tensor], pattern: str) -> int:
    return 1 + max(int(match[1]) for key in own if (match := re.match(pattern, key)))
