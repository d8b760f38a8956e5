"""MedGemma 4B: Gemma 3 with a SigLIP tower, in the layout transformers 4 published (``language_model.model.*``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.export.decoder_network import LanguageModel
from models.export.imported import Imported
from models.export.language_config import gemma_shape
from models.export.patch_encoder_network import PatchEncoder, PatchEncoderShape
from models.export.projector_network import GemmaVision
from models.export.released_folder import ReleasedFolder, sizes
from models.export.vision_language import Split, decoding, finish, load, noise

SYSTEM = "medgemma"
VISION_KEYS = {
    "vision_tower.vision_model.": "vision_model.",
    "multi_modal_projector.": "multi_modal_projector.",
}
_HALF = (0.5, 0.5, 0.5)


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert the released folder.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    released = ReleasedFolder(checkpoint)
    tensors = {key: value for key, value in released.tensors().items() if not key.endswith("position_ids")}
    with torch.device("meta"):
        vision, language = networks(released.config)
    load_gemma(vision, language, tensors)
    size = vision.vision_model.shape.size
    tables = {
        "options.image": {"levels": "own_range", "mean": list(_HALF), "std": list(_HALF)},
        "options.image.steps": [{"step": "stretch", "size": size, "filter": "pil_bilinear"}],
        **decoding(released, maximum=1024, stops=("<end_of_turn>",)),
    }
    inputs = {"vision": (vision, noise((2, 3, size, size), (1, 3, size, size)))}
    window = int(released.config["text_config"].get("sliding_window") or 1024)
    return finish(SYSTEM, released, folder, Split(vision, language, inputs, tables), len(tensors), window=window)


def networks(config: Mapping[str, Any]) -> tuple[GemmaVision, LanguageModel]:
    """Networks of the sizes ``config.json`` states.

    Raises
    ------
    CheckpointMismatch
        A size is missing.
    """
    halves = sizes(config, "text_config", "vision_config")
    stated = halves["vision_config"]
    tower = sizes(stated, "hidden_size", "image_size", "patch_size", "num_hidden_layers", "num_attention_heads")
    tower |= sizes(stated, "intermediate_size")
    shape = gemma_shape(halves["text_config"])
    encoder = PatchEncoderShape(
        size=tower["image_size"],
        patch=tower["patch_size"],
        width=tower["hidden_size"],
        layers=tower["num_hidden_layers"],
        heads=tower["num_attention_heads"],
        hidden=tower["intermediate_size"],
        epsilon=float(stated.get("layer_norm_eps", 1e-6)),
        activation="gelu_tanh",
        clip=False,
        layers_run=tower["num_hidden_layers"],
    )
    tokens = int(config.get("mm_tokens_per_image", 256))
    vision = GemmaVision(PatchEncoder(encoder), shape.width, tokens, encoder.epsilon)
    return vision, LanguageModel(shape)


def load_gemma(vision: GemmaVision, language: LanguageModel, tensors: Mapping[str, Tensor]) -> None:
    """Load released tensors exactly."""
    head = "language_model.lm_head.weight"
    load(vision, language, tensors, vision_keys=VISION_KEYS, text="language_model.model.", head=head)
