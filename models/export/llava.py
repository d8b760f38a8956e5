"""LLaVA's own released layout (``llava_mistral``, ``llava_llama``): CLIP tower, two-layer projector, Llama or Mistral.

Keys are ``model.vision_tower.vision_tower.vision_model.*``, ``model.mm_projector.{0,2}.*``, ``model.*`` and
``lm_head.weight`` (microsoft/LLaVA-Med, haotian-liu/LLaVA: ``llava/model/llava_arch.py``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.errors import CheckpointMismatch
from models.export.decoder_network import LanguageModel
from models.export.imported import Imported, Tables
from models.export.language_config import decoder_shape
from models.export.patch_encoder_network import PatchEncoder, PatchEncoderShape
from models.export.projector_network import LlavaVision
from models.export.released_folder import ReleasedFolder
from models.export.vision_language import Split, decoding, finish, load, noise

TOWER = "model.vision_tower.vision_tower.vision_model."
VISION_KEYS = {TOWER: "vision_model.", "model.mm_projector.": "mm_projector."}
HEAD = 64
"""Size of an attention head of every CLIP tower; the configuration does not state it."""
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def convert_llava(
    system: str, checkpoint: Path, folder: Path, *, maximum: int, stops: tuple[str, ...] = ()
) -> Imported:
    """Convert a released folder of the layout above.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    released = ReleasedFolder(checkpoint)
    tensors = {
        key: value
        for key, value in released.tensors().items()
        if not key.endswith(("position_ids", "rotary_emb.inv_freq"))
    }
    with torch.device("meta"):
        vision, language = networks(released.config, {key: tuple(value.shape) for key, value in tensors.items()})
    load_llava(vision, language, tensors)
    size = vision.vision_model.shape.size
    background = [int(255 * each) for each in MEAN]
    tables: Tables = {
        "options.image": {"levels": "own_range", "mean": list(MEAN), "std": list(STD)},
        "options.image.steps": [
            {"step": "pad_square", "colour": background},
            {"step": "stretch", "size": size, "filter": "pil_bicubic"},
        ],
        **decoding(released, maximum=maximum, stops=stops),
    }
    split = Split(
        vision,
        language,
        {"vision": (vision, noise((2, 3, size, size), (1, 3, size, size)))},
        tables,
    )
    return finish(system, released, folder, split, len(tensors), window=released.config.get("sliding_window") or None)


def networks(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> tuple[LlavaVision, LanguageModel]:
    """Networks of the sizes configuration and tensors state.

    Raises
    ------
    CheckpointMismatch
        A tensor that tells a size is missing, or the projector is of another type.
    """
    if config.get("mm_projector_type", "mlp2x_gelu") != "mlp2x_gelu":
        raise CheckpointMismatch(f"a projector of type {config['mm_projector_type']} has no converter")
    if int(config.get("mm_vision_select_layer", -2)) != -2:
        raise CheckpointMismatch("another layer of the vision tower than the last but one is read")
    try:
        width = shapes[f"{TOWER}embeddings.class_embedding"][0]
        patch = shapes[f"{TOWER}embeddings.patch_embedding.weight"][-1]
        places = shapes[f"{TOWER}embeddings.position_embedding.weight"][0] - 1
        hidden = shapes[f"{TOWER}encoder.layers.0.mlp.fc1.weight"][0]
    except KeyError as error:
        raise CheckpointMismatch(f"not LLaVA's own layout: no {error}") from error
    found = [re.match(re.escape(TOWER) + r"encoder\.layers\.(\d+)\.", key) for key in shapes]
    layers = max(int(match[1]) for match in found if match) + 1
    tower = PatchEncoderShape(
        size=round(places**0.5) * patch,
        patch=patch,
        width=width,
        layers=layers,
        heads=max(width // HEAD, 1),
        hidden=hidden,
        layers_run=layers - 1,
    )
    shape = decoder_shape(config, kind="llama")
    return LlavaVision(PatchEncoder(tower), shape.width), LanguageModel(shape)


def load_llava(vision: LlavaVision, language: LanguageModel, tensors: Mapping[str, Tensor]) -> None:
    """Load released tensors exactly."""
    load(vision, language, tensors, vision_keys=VISION_KEYS, text="model.", head="lm_head.weight")
