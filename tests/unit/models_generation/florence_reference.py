"""A small Florence-2: transformers' own, and its folder in the layout that was published first."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file

from tests.unit.models_generation.references import Reference
from tests.unit.models_generation.released import character_tokenizer, randomised

VOCABULARY = 140
IMAGE_TOKEN = 130
STAGES = {"depths": [1, 1], "num_heads": [2, 4], "num_groups": [2, 4], "patch_size": [7, 3], "patch_stride": [4, 2]}
STAGES |= {"patch_padding": [3, 1], "patch_prenorm": [False, True], "window_size": 3}
TEXT = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 96,
}
_BLOCK = re.compile(r"(vision_tower\.blocks\.\d+\.\d+\.)(spatial|channel)_block\.(\w+)\.(.*)")


def published_key(key: str) -> str:
    """The key of the original layout for one of transformers'
    (huggingface/transformers@186d3ed: convert_florence2_original_pytorch_to_hf.py)."""
    key = key.removeprefix("model.")
    if key == "lm_head.weight":
        return "language_model.lm_head.weight"
    if key.startswith("language_model."):
        return key.replace("language_model.", "language_model.model.", 1)
    key = key.replace("multi_modal_projector.image_position_embed", "image_pos_embed")
    key = key.removeprefix("multi_modal_projector.")
    key = re.sub(r"(vision_tower\.convs\.\d+\.)conv\.", r"\1proj.", key)
    if key == "image_projection.weight":
        return "image_projection"
    match = _BLOCK.match(key)
    if not match:
        return key
    stem, kind, name, rest = match.groups()
    attention = "window_attn" if kind == "spatial" else "channel_attn"
    inner = {
        "conv1": f"conv1.fn.dw.{rest}",
        "conv2": f"conv2.fn.dw.{rest}",
        "norm1": f"{attention}.norm.{rest}",
        "norm2": f"ffn.norm.{rest}",
        attention: f"{attention}.fn.{rest}",
        "ffn": f"ffn.fn.net.{rest}",
    }[name]
    return f"{stem}{kind}_block.{inner}"


def florence(folder: Path) -> Reference:
    """The pair."""
    config = transformers.Florence2Config(
        vision_config={
            **STAGES,
            "embed_dim": [16, 32],
            "projection_dim": 32,
            "max_temporal_embeddings": 5,
            "max_position_embeddings": 12,
        },
        text_config=transformers.BartConfig(
            **TEXT, forced_eos_token_id=2, bos_token_id=0, eos_token_id=2, pad_token_id=1, decoder_start_token_id=2
        ),
        image_token_id=IMAGE_TOKEN,
    )
    model: Any = randomised(transformers.Florence2ForConditionalGeneration(config), 5, spread=0.25)
    with torch.no_grad():
        # Tied to the embeddings; larger ones make the tokens vary.
        model.get_input_embeddings().weight.mul_(3.0)
    model.generation_config.update(
        bos_token_id=0, eos_token_id=2, pad_token_id=1, decoder_start_token_id=2, forced_eos_token_id=2
    )
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for key, value in model.state_dict().items():
        name = published_key(key)
        tensors[name] = (value.T if name == "image_projection" else value).clone().contiguous()
    tensors["language_model.final_logits_bias"] = torch.zeros(1, VOCABULARY)
    save_file(tensors, folder / "model.safetensors")
    published = {
        "model_type": "florence2",
        "vision_config": {
            **STAGES,
            "dim_embed": [16, 32],
            "projection_dim": 32,
            "image_pos_embed": {"type": "learned_abs_2d", "max_pos_embeddings": 12},
            "visual_temporal_embedding": {"type": "COSINE", "max_temporal_embeddings": 5},
        },
        "text_config": {**TEXT, "forced_eos_token_id": 2, "decoder_start_token_id": 2, "no_repeat_ngram_size": 3},
    }
    (folder / "config.json").write_text(json.dumps(published))
    special = ("<s>", "<pad>", "</s>", "<unk>")
    character_tokenizer("abcdefghijklmnopqrstuvwxyz .,:", special=special, size=VOCABULARY).save(
        str(folder / "tokenizer.json")
    )
    return Reference(model, folder)
