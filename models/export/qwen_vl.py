"""Qwen2-VL and Qwen2.5-VL as released (``visual.*``, ``model.*``): Lingshu and Med-R1 are fine-tuned from them.

The vision tower depends on the number of patches, so each allowed size is a graph of its own, named
``vision_ROWSxCOLUMNS``; the node picks the one nearest to the image's shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.errors import CheckpointMismatch
from models.export.decoder_network import LanguageModel
from models.export.imported import Imported
from models.export.language_config import decoder_shape
from models.export.llava import MEAN, STD
from models.export.qwen_vision_network import QwenVision, QwenVisionShape
from models.export.released_folder import ReleasedFolder, sizes
from models.export.vision_language import Split, decoding, finish, load, noise

VISION_KEYS = {"visual.": ""}


def convert_qwen(
    system: str, checkpoint: Path, folder: Path, *, maximum: int, grids: Sequence[tuple[int, int]]
) -> Imported:
    """Convert a released folder.

    Parameters
    ----------
    grids : sequence of (int, int)
        Rows and columns of patches of 14 pixels, both even.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    released = ReleasedFolder(checkpoint)
    tensors = released.tensors()
    with torch.device("meta"):
        vision, language = networks(released.config)
    load_qwen(vision, language, tensors)
    shape = vision.shape
    values = 3 * shape.temporal * shape.patch**2
    inputs = {
        f"vision_{rows}x{columns}": (
            vision.for_grid((rows, columns)),
            noise((rows * columns, values), (rows * columns, values)),
        )
        for rows, columns in grids
    }
    tables = {
        "options.image": {
            "levels": "own_range",
            "arrange": "patches",
            "patch": shape.patch,
            "grids": [list(grid) for grid in grids],
            "mean": list(MEAN),
            "std": list(STD),
        },
        **decoding(released, maximum=maximum, stops=("<|im_end|>", "<|endoftext|>")),
    }
    return finish(system, released, folder, Split(vision, language, inputs, tables), len(tensors))


def networks(config: Mapping[str, Any]) -> tuple[QwenVision, LanguageModel]:
    """Networks of the sizes ``config.json`` states.

    Raises
    ------
    CheckpointMismatch
        It is another architecture, or a size is missing.
    """
    kind = config.get("model_type")
    if kind not in ("qwen2_vl", "qwen2_5_vl"):
        raise CheckpointMismatch(f"a model of type {kind} is not Qwen2-VL or Qwen2.5-VL")
    text = {**config, **config.get("text_config", {})}
    shape = decoder_shape(text, kind="qwen2")
    stated = sizes(config, "vision_config")["vision_config"]
    if kind == "qwen2_vl":
        tower = QwenVisionShape(
            width=stated.get("embed_dim", 1280),
            layers=stated.get("depth", 32),
            heads=stated.get("num_heads", 16),
            hidden=int(stated.get("embed_dim", 1280) * stated.get("mlp_ratio", 4)),
            out=shape.width,
            patch=stated.get("patch_size", 14),
        )
    else:
        tower = QwenVisionShape(
            width=stated.get("hidden_size", 1280),
            layers=stated.get("depth", 32),
            heads=stated.get("num_heads", 16),
            hidden=stated.get("intermediate_size", 3420),
            out=shape.width,
            patch=stated.get("patch_size", 14),
            gated=True,
            window=stated.get("window_size", 112),
            full_blocks=tuple(stated.get("fullatt_block_indexes", (7, 15, 23, 31))),
        )
    return QwenVision(tower), LanguageModel(shape)


def load_qwen(vision: QwenVision, language: LanguageModel, tensors: Mapping[str, Tensor]) -> None:
    """Load released tensors exactly."""
    load(vision, language, tensors, vision_keys=VISION_KEYS, text="model.", head="lm_head.weight")
