"""Fleming-VL 8B: InternVL's own layout (``vision_model``, ``mlp1``, ``language_model`` of Qwen2) to graphs and a card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.errors import CheckpointMismatch
from models.export.decoder_network import LanguageModel
from models.export.imported import Imported
from models.export.intern_vision_network import InternShape, InternVision
from models.export.language_config import decoder_shape
from models.export.projector_network import InternProjection
from models.export.released_folder import ReleasedFolder, sizes
from models.export.vision_language import Split, decoding, finish, load, noise

SYSTEM = "fleming-vl"
VISION_KEYS = {"vision_model.": "vision_model.", "mlp1.": "mlp1."}
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert the released folder.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    released = ReleasedFolder(checkpoint)
    tensors = released.tensors()
    with torch.device("meta"):
        vision, language = networks(released.config)
    load_intern(vision, language, tensors)
    size = vision.vision_model.shape.size
    tables = {
        "options.image": {
            "levels": "own_range",
            "arrange": "tiles",
            "size": size,
            "most_tiles": int(released.config.get("max_dynamic_patch", 12)),
            "mean": list(_MEAN),
            "std": list(_STD),
        },
        **decoding(released, maximum=2048, stops=("<|im_end|>",)),
    }
    inputs = {"vision": (vision, noise((2, 3, size, size), (1, 3, size, size)))}
    return finish(SYSTEM, released, folder, Split(vision, language, inputs, tables), len(tensors))


def networks(config: Mapping[str, Any]) -> tuple[InternProjection, LanguageModel]:
    """Networks of the sizes ``config.json`` states.

    Raises
    ------
    CheckpointMismatch
        It is another architecture, or a size is missing.
    """
    halves = sizes(config, "llm_config", "vision_config")
    text, stated = halves["llm_config"], halves["vision_config"]
    kind = text.get("model_type", "qwen2")
    if kind not in ("qwen2", "qwen3"):
        raise CheckpointMismatch(f"a language model of type {kind} has no converter within InternVL")
    if config.get("select_layer", -1) != -1 or float(config.get("downsample_ratio", 0.5)) != 0.5:
        raise CheckpointMismatch(
            "another layer of the tower is read, or other patches are folded, than this converter knows"
        )
    tower = InternShape(
        size=int(config.get("force_image_size") or stated.get("image_size", 448)),
        patch=stated.get("patch_size", 14),
        width=stated.get("hidden_size", 1024),
        layers=stated.get("num_hidden_layers", 24),
        heads=stated.get("num_attention_heads", 16),
        hidden=stated.get("intermediate_size", 4096),
        epsilon=float(stated.get("layer_norm_eps", 1e-6)),
    )
    shape = decoder_shape(text, kind=kind)
    return InternProjection(InternVision(tower), shape.width), LanguageModel(shape)


def load_intern(vision: InternProjection, language: LanguageModel, tensors: Mapping[str, Tensor]) -> None:
    """Load released tensors exactly."""
    head = "language_model.lm_head.weight"
    load(vision, language, tensors, vision_keys=VISION_KEYS, text="language_model.model.", head=head)
