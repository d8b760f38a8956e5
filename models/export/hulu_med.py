"""Hulu-Med 4B to 32B: a SigLIP tower at the image's own size before Qwen2 or Qwen3, to graphs and a card.

The names are those of its published remote code (``modeling_hulumed_qwen2.py``, ``modeling_hulumed_encoder.py``), which
are also the names of transformers' ``video_llama_3`` but for their prefixes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.errors import CheckpointMismatch
from models.export.decoder_network import LanguageModel
from models.export.imported import Imported
from models.export.language_config import decoder_shape
from models.export.native_vision_network import NativeShape, NativeTower, NativeVision
from models.export.released_folder import ReleasedFolder, sizes
from models.export.vision_language import Split, decoding, finish, load
from models.generation.pictures import patch_places

SYSTEM = "hulu-med"
KINDS = {"hulumed_qwen2": "qwen2", "hulumed_qwen3": "qwen3"}
TOWER = "model.vision_encoder."
VISION_KEYS = {TOWER: "vision_encoder.", "model.mm_projector.readout.": "readout."}
MOST_TOKENS = 2304
"""Image tokens at most in a new card: the released processor allows 16384, for which attention would need 17 GB."""


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
    load_hulu(vision, language, tensors)
    patch = vision.vision_encoder.shape.patch
    tables = {"options.image": image_table(released, patch), **decoding(released, maximum=1024, stops=("<|im_end|>",))}
    inputs = {"vision": (vision, [_image((6, 4), 2, patch), _image((4, 7), 1, patch), _image((3, 5), 1, patch)])}
    return finish(SYSTEM, released, folder, Split(vision, language, inputs, tables), len(tensors))


def networks(config: Mapping[str, Any]) -> tuple[NativeVision, LanguageModel]:
    """Networks of the sizes ``config.json`` states.

    Raises
    ------
    CheckpointMismatch
        It is another architecture, or a size is missing.
    """
    kind = KINDS.get(str(config.get("model_type")))
    if kind is None:
        raise CheckpointMismatch(f"a model of type {config.get('model_type')} is not Hulu-Med")
    if config.get("mm_projector_type", "mlp2x_gelu") != "mlp2x_gelu":
        raise CheckpointMismatch(f"a projector of type {config['mm_projector_type']} is not known")
    stated = sizes(config, "vision_encoder_config")["vision_encoder_config"]
    stated = sizes(stated, "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size") | dict(
        stated
    )
    if stated.get("hidden_act", "gelu_pytorch_tanh") != "gelu_pytorch_tanh":
        raise CheckpointMismatch(f"the tower's activation {stated['hidden_act']} is not known")
    tower = NativeShape(
        width=int(stated["hidden_size"]),
        layers=int(stated["num_hidden_layers"]),
        heads=int(stated["num_attention_heads"]),
        hidden=int(stated["intermediate_size"]),
        patch=int(stated.get("patch_size", 14)),
        epsilon=float(stated.get("layer_norm_eps", 1e-6)),
    )
    shape = decoder_shape(config, kind=kind)
    return NativeVision(NativeTower(tower), shape.width), LanguageModel(shape)


def load_hulu(vision: NativeVision, language: LanguageModel, tensors: Mapping[str, Tensor]) -> None:
    """Load released tensors exactly; the tower may lie in a wrapper of its own, as its training code saves it."""
    twice = f"{TOWER}vision_encoder."
    plain = {TOWER + key.removeprefix(twice) if key.startswith(twice) else key: value for key, value in tensors.items()}
    load(vision, language, plain, vision_keys=VISION_KEYS, text="model.", head="lm_head.weight")


def image_table(released: ReleasedFolder, patch: int) -> dict[str, Any]:
    """``options.image`` by the released processor.

    Raises
    ------
    CheckpointMismatch
        The folder has no ``preprocessor_config.json``, or it leaves out the mean; the code's own defaults are another
        model's.
    """
    told = released.json("preprocessor_config.json")
    told = sizes(told, "image_mean", "image_std") | dict(told)
    if int(told.get("patch_size", patch)) != patch:
        raise CheckpointMismatch("preprocessor_config.json and config.json state different patches")
    return {
        "levels": "own_range",
        "arrange": "own_size",
        "patch": patch,
        "merge": 1,
        "least_tokens": int(told.get("min_tokens", 16)),
        "most_tokens": min(int(told.get("max_tokens", 16384)), MOST_TOKENS),
        "mean": [float(each) for each in told["image_mean"]],
        "std": [float(each) for each in told["image_std"]],
    }


def _image(grid: tuple[int, int], merge: int, patch: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(grid[0])
    pixels = torch.randn((grid[0] * grid[1], 3 * patch * patch), generator=generator)
    return pixels, torch.from_numpy(patch_places(grid, merge))
