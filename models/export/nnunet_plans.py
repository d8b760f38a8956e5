"""What nnU-Net v2 leaves beside its weights: ``plans.json`` and ``dataset.json``, both spellings of the plans.

Sources: nnunetv2/utilities/plans_handling/plans_handler.py, nnunetv2/utilities/get_network_from_plans.py and
nnunetv2/preprocessing/normalization of MIC-DKFZ/nnUNet (version 2.0 to 2.6).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import CheckpointMismatch
from models.export.nnunet_network import NnUNetShape

_NETWORKS = {"PlainConvUNet": "plain", "ResidualEncoderUNet": "residual"}
_RESAMPLING = "resample_data_or_seg_to_shape"
_CLASSES = "num_classes"


@dataclass(frozen=True, slots=True)
class NnUNetPlans:
    """One configuration of a trained nnU-Net.

    Attributes
    ----------
    shape : NnUNetShape
    patch : tuple of int
        Window, in transposed axes.
    spacing : tuple of float
        In transposed axes, mm.
    order : tuple of int
        ``transpose_forward``.
    channels : tuple of dict
        ``normalise`` and its numbers for each channel, as :class:`models.dense.options.Channel` has them.
    channel_names : tuple of str
    labels : tuple of str
        Names of classes 1, 2 …; with regions, of the labels they paint.
    paint : tuple of (int, int)
        (output, label) for regions; empty for classes.
    """

    shape: NnUNetShape
    patch: tuple[int, ...]
    spacing: tuple[float, ...]
    order: tuple[int, int, int]
    channels: tuple[dict[str, Any], ...]
    channel_names: tuple[str, ...]
    labels: tuple[str, ...]
    paint: tuple[tuple[int, int], ...]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises
    ------
    CheckpointMismatch
        There is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointMismatch(f"{path.name} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointMismatch(f"{path.name} holds no object")
    return content


def read_plans(folder: Path, configuration: str) -> NnUNetPlans:
    """The plans of ``configuration`` in a results folder of nnU-Net v2.

    Raises
    ------
    CheckpointMismatch
        A file or key is missing, or says something this converter does not know.
    """
    plans, dataset = read_json(folder / "plans.json"), read_json(folder / "dataset.json")
    try:
        return _plans(plans, dataset, configuration)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise CheckpointMismatch(f"plans.json or dataset.json: {type(error).__name__}: {error}") from error


def _plans(plans: Mapping[str, Any], dataset: Mapping[str, Any], configuration: str) -> NnUNetPlans:
    chosen = _inherited(plans["configurations"], configuration)
    if chosen.get("previous_stage"):
        raise CheckpointMismatch(
            f"{configuration} needs the answer of {chosen['previous_stage']}; cascades are not read"
        )
    if (how := chosen.get("resampling_fn_data", _RESAMPLING)) != _RESAMPLING:
        raise CheckpointMismatch(f"resampling {how} is not known")
    names = dataset.get("channel_names") or dataset["modality"]
    labels, paint = _labels(dataset)
    outputs = len(paint) if paint else len(labels) + 1
    order = plans["transpose_forward"]
    return NnUNetPlans(
        shape=_shape(chosen, len(names), outputs),
        patch=tuple(int(each) for each in chosen["patch_size"]),
        spacing=tuple(float(each) for each in chosen["spacing"]),
        order=(int(order[0]), int(order[1]), int(order[2])),
        channels=_channels(plans, chosen),
        channel_names=tuple(str(names[key]) for key in sorted(names, key=int)),
        labels=labels,
        paint=paint,
    )


def _inherited(configurations: Mapping[str, Any], name: str) -> dict[str, Any]:
    if name not in configurations:
        raise CheckpointMismatch(f"plans.json has no configuration {name}; there are {', '.join(configurations)}")
    own = configurations[name]
    parent = own.get("inherits_from")
    return {**(_inherited(configurations, parent) if parent else {}), **own}


def _shape(chosen: Mapping[str, Any], channels: int, outputs: int) -> NnUNetShape:
    if "architecture" in chosen:
        network = str(chosen["architecture"]["network_class_name"]).rsplit(".", 1)[-1]
        given = chosen["architecture"]["arch_kwargs"]
        features = [int(each) for each in given["features_per_stage"]]
        blocks = given.get("n_conv_per_stage", given.get("n_blocks_per_stage"))
        kernels, strides, decoder = given["kernel_sizes"], given["strides"], given["n_conv_per_stage_decoder"]
        bias, epsilon = bool(given.get("conv_bias", False)), float(given["norm_op_kwargs"].get("eps", 1e-5))
        _require_known(given)
    else:
        network = chosen["UNet_class_name"]
        kernels, strides = chosen["conv_kernel_sizes"], chosen["pool_op_kernel_sizes"]
        most, first = int(chosen["unet_max_num_features"]), int(chosen["UNet_base_num_features"])
        features = [min(first * 2**n, most) for n in range(len(kernels))]
        blocks, decoder = chosen["n_conv_per_stage_encoder"], chosen["n_conv_per_stage_decoder"]
        bias, epsilon = True, 1e-5
    if network not in _NETWORKS:
        raise CheckpointMismatch(f"a network {network}; known are {', '.join(_NETWORKS)}")
    stages = len(features)
    return NnUNetShape(
        kind=_NETWORKS[network],  # type: ignore[arg-type]
        channels=channels,
        classes=outputs,
        features=tuple(features),
        kernels=tuple(tuple(int(k) for k in each) for each in kernels),
        strides=tuple(tuple(int(k) for k in each) for each in strides),
        encoder_blocks=_each(blocks, stages),
        decoder_blocks=_each(decoder, stages - 1),
        bias=bias,
        epsilon=epsilon,
    )


def _require_known(given: Mapping[str, Any]) -> None:
    """Refuse layers other than the ones nnU-Net's own planners choose."""
    for key, ending in (("norm_op", "InstanceNorm"), ("nonlin", "LeakyReLU"), ("conv_op", "Conv")):
        if ending not in str(given[key]).rsplit(".", 1)[-1]:
            raise CheckpointMismatch(f"{key} {given[key]} is not known")
    if given.get("dropout_op") or given.get("nonlin_first") or given.get("squeeze_excitation"):
        raise CheckpointMismatch("dropout, nonlin_first or squeeze_excitation are not known")


def _each(given: Any, stages: int) -> tuple[int, ...]:
    return tuple(int(each) for each in given) if isinstance(given, list) else (int(given),) * stages


def _channels(plans: Mapping[str, Any], chosen: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    made: list[dict[str, Any]] = []
    masks = chosen.get("use_mask_for_norm") or [False] * len(chosen["normalization_schemes"])
    for number, scheme in enumerate(chosen["normalization_schemes"]):
        if scheme == "ZScoreNormalization":
            made.append({"normalise": "zscore_mask" if masks[number] else "zscore"})
        elif scheme == "CTNormalization":
            found = plans["foreground_intensity_properties_per_channel"][str(number)]
            made.append(
                {
                    "normalise": "clip_standardise",
                    "low": float(found["percentile_00_5"]),
                    "high": float(found["percentile_99_5"]),
                    "mean": float(found["mean"]),
                    "spread": max(float(found["std"]), 1e-8),
                }
            )
        elif scheme in ("NoNormalization", "RescaleTo01Normalization"):
            made.append({"normalise": "none" if scheme == "NoNormalization" else "own_range"})
        else:
            raise CheckpointMismatch(f"normalisation {scheme} is not known")
    return tuple(made)


def _labels(dataset: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    """Names of the labels 1, 2 …, and what each output paints where the outputs are regions."""
    given = {name: value for name, value in dataset["labels"].items() if name not in ("background", "ignore")}
    if not any(isinstance(value, list) for value in given.values()):
        ordered = sorted(given, key=lambda name: int(given[name]))
        if [int(given[name]) for name in ordered] != list(range(1, len(ordered) + 1)):
            raise CheckpointMismatch("the labels of dataset.json are not 1, 2, 3 …")
        return tuple(ordered), ()
    painted = [int(each) for each in dataset["regions_class_order"]]
    if sorted(painted) != list(range(1, len(painted) + 1)) or len(painted) != len(given):
        raise CheckpointMismatch("regions_class_order of dataset.json does not give each region a label of its own")
    names = dict(zip(painted, given, strict=True))
    return tuple(names[value] for value in sorted(names)), tuple(enumerate(painted))
