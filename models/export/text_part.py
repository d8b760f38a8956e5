"""The language model of an image-reading model by itself, as transformers lays it out: what onnxruntime-genai's builder takes.

``python -m models.export.text_part SYSTEM CHECKPOINT FOLDER``. Lingshu and other Qwen2.5-VL folders need no such step: the
builder takes them as they were released.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from models.errors import CheckpointMismatch, ModelError
from models.export import hulu_med
from models.export.checkpoint import load_exactly
from models.export.decoder_network import DecoderShape, LanguageModel
from models.export.language_config import decoder_shape
from models.export.released_folder import ReleasedFolder, sizes

_HEAD = "lm_head.weight"
_COPIED = ("max_position_embeddings", "rope_theta", "rope_scaling", "rope_parameters", "bos_token_id", "eos_token_id")
_PREFIXES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "llava-med": ("model.", _HEAD, ("model.vision_tower.", "model.mm_projector.")),
    "bimedix2": ("model.", _HEAD, ("model.vision_tower.", "model.mm_projector.")),
    "hulu-med": ("model.", _HEAD, ("model.vision_encoder.", "model.mm_projector.")),
    "fleming-vl": ("language_model.model.", f"language_model.{_HEAD}", ("vision_model.", "mlp1.")),
}
"""System → prefix of the language model's keys, key of its head, prefixes of what is no language."""


def write_text_part(system: str, checkpoint: Path, folder: Path) -> None:
    """Write ``config.json``, ``model.safetensors`` and ``tokenizer.json`` into the new folder ``folder``.

    Raises
    ------
    CheckpointMismatch
        The system's language model cannot be taken out for the builder, or the checkpoint is of another layout.
    CheckpointUnsafe
    """
    if system not in _PREFIXES:
        raise CheckpointMismatch(f"no text part of {system}; there are {', '.join(_PREFIXES)}")
    prefix, head, others = _PREFIXES[system]
    released = ReleasedFolder(checkpoint)
    config = released.config
    if system == "fleming-vl":
        config = sizes(config, "llm_config")["llm_config"]
    shape = decoder_shape(config, kind=_kind(system, config))
    if shape.windowed:
        raise CheckpointMismatch(f"layers of {system} look at a window only, which its own decoder does")
    tensors = {key: value for key, value in released.tensors().items() if not key.startswith(others)}
    words = {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix) and key != head
    }
    words[_HEAD] = tensors.get(head, words.get("embed_tokens.weight", torch.empty(0)))
    words = {key: value for key, value in words.items() if not key.endswith("rotary_emb.inv_freq")}
    with torch.device("meta"):
        language = LanguageModel(shape)
    load_exactly(language, words, assign=True)
    folder.mkdir(parents=True)
    stored = {key if key == _HEAD else f"model.{key}": value.clone() for key, value in language.state_dict().items()}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    # The builder wants to know what ends a text, wherever that is stated.
    told = {**released.json("generation_config.json", required=False), **config}
    stated = {**_stated(shape), **{key: told[key] for key in _COPIED if told.get(key) is not None}}
    (folder / "config.json").write_text(json.dumps(stated, indent=2) + "\n", encoding="utf-8")
    released.tokenizer().save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}\n', encoding="utf-8")


def _kind(system: str, config: Mapping[str, Any]) -> str:
    if system == "hulu-med":
        return hulu_med.KINDS.get(str(config.get("model_type")), "qwen2")
    return str(config.get("model_type", "qwen2")) if system == "fleming-vl" else "llama"


def _stated(shape: DecoderShape) -> dict[str, Any]:
    """Sizes, under the names and the architecture transformers has for such a network."""
    family = "qwen2" if shape.query_bias else "qwen3" if shape.query_norm else "llama"
    return {
        "architectures": [f"{family.capitalize()}ForCausalLM"],
        "model_type": family,
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "intermediate_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_size,
        "hidden_act": "silu",
        "rms_norm_eps": shape.epsilon,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "dtype": "float32",
    }


def main(arguments: list[str]) -> int:
    """Write it; 1 and the reason on stderr where it is refused."""
    if len(arguments) != 3:
        print("python -m models.export.text_part SYSTEM CHECKPOINT FOLDER", file=sys.stderr)
        return 2
    try:
        write_text_part(arguments[0], Path(arguments[1]), Path(arguments[2]))
    except ModelError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
