"""Small image-reading language models: transformers' own, and their folders in the layout that was published."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.unit.models_generation.released import PAD, START, STOP, character_tokenizer, randomised

VOCABULARY = 128
IMAGE_TOKEN = 120
NAMED = ("<|eot_id|>", "<end_of_turn>", "<|im_end|>", "<|endoftext|>", "<|image_pad|>", "<image_soft_token>")
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@dataclass(frozen=True)
class Reference:
    """One system: its model in transformers, and the folder as published."""

    model: Any
    folder: Path


def write_folder(model: Any, folder: Path, config: Mapping[str, Any], rename: Callable[[str, Any], Any]) -> Path:
    """Save what transformers publishes under the names of another layout."""
    model.save_pretrained(folder)
    tensors: dict[str, torch.Tensor] = {}
    for key, value in load_file(folder / "model.safetensors").items():
        tensors.update(rename(key, value))
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": STOP}))
    character_tokenizer("abcdefgh ?", size=VOCABULARY).save(str(folder / "tokenizer.json"))
    return folder


def _ready(model: Any, seed: int, *, spread: float = 0.3) -> Any:
    model = randomised(model, seed, spread=spread)
    model.generation_config.update(pad_token_id=PAD, bos_token_id=START, eos_token_id=STOP)
    return model


def llava(folder: Path, *, llama: bool) -> Reference:
    """LLaVA's own layout around Mistral (LLaVA-Med) or Llama 3.1 (BiMediX2)."""
    vision = transformers.CLIPVisionConfig(
        hidden_size=128, intermediate_size=96, num_hidden_layers=3, num_attention_heads=2, image_size=56, patch_size=14
    )
    stretched = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    text: Any = (
        transformers.LlamaConfig(**TEXT, rope_parameters={**stretched, "rope_theta": 500000.0})
        if llama
        else transformers.MistralConfig(
            **TEXT, sliding_window=None, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}
        )
    )
    config = transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE_TOKEN)
    model = _ready(transformers.LlavaForConditionalGeneration(config), 1)

    def rename(key: str, value: Any) -> dict[str, Any]:
        for theirs, published in (
            ("language_model.model.", "model."),
            ("language_model.lm_head.", "lm_head."),
            ("multi_modal_projector.linear_1.", "model.mm_projector.0."),
            ("multi_modal_projector.linear_2.", "model.mm_projector.2."),
            ("vision_tower.vision_model.", "model.vision_tower.vision_tower.vision_model."),
            ("vision_tower.", "model.vision_tower.vision_tower.vision_model."),
        ):
            if key.startswith(theirs):
                return {published + key.removeprefix(theirs): value}
        raise AssertionError(key)

    published = {
        **TEXT,
        "model_type": "llava_llama" if llama else "llava_mistral",
        "rms_norm_eps": text.rms_norm_eps,
        "rope_theta": 500000.0 if llama else 1000000.0,
        "rope_scaling": stretched if llama else None,
        "sliding_window": None,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "auto_map": {"AutoModel": "modeling.Evil"},
    }
    return Reference(model, write_folder(model, folder, published, rename))


def gemma(folder: Path) -> Reference:
    """MedGemma: sliding and full layers, tokens of one image see each other."""
    vision = {
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 56,
        "patch_size": 14,
    }
    text = {**TEXT, "head_dim": 16, "sliding_window": 6, "query_pre_attn_scalar": 16}
    layers = ["sliding_attention", "full_attention", "sliding_attention"]
    config = transformers.Gemma3Config(
        text_config=transformers.Gemma3TextConfig(
            **text,
            layer_types=layers,
            rope_parameters={
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        ),
        vision_config=transformers.SiglipVisionConfig(**vision, vision_use_head=False),
        mm_tokens_per_image=4,
        image_token_index=IMAGE_TOKEN,
    )
    config.text_config.tie_word_embeddings = config.tie_word_embeddings = False
    model = _ready(transformers.Gemma3ForConditionalGeneration(config), 2, spread=0.25)
    published = {
        "model_type": "gemma3",
        "mm_tokens_per_image": 4,
        "text_config": {
            **text,
            "layer_types": layers,
            "rope_theta": 1000000.0,
            "rope_local_base_freq": 10000.0,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        },
        "vision_config": vision,
    }

    def rename(key: str, value: Any) -> dict[str, Any]:
        # Version 4 of transformers, with which it was published, kept the tower one level deeper.
        inner = key.removeprefix("vision_tower.").removeprefix("vision_model.")
        return {f"vision_tower.vision_model.{inner}" if key.startswith("vision_tower.") else key: value}

    return Reference(model, write_folder(model, folder, published, rename))


def qwen(folder: Path, *, gated: bool) -> Reference:
    """Qwen2-VL (Med-R1) or Qwen2.5-VL (Lingshu)."""
    rope = {"rope_type": "default", "type": "mrope", "mrope_section": [1, 1, 2], "rope_theta": 1000000.0}
    if gated:
        vision = {
            "depth": 3,
            # Four patches side by side are no 128 wide, which is the vocabulary: genai's builder finds the head by its size.
            "hidden_size": 48,
            "out_hidden_size": 32,
            "num_heads": 4,
            "intermediate_size": 40,
            "patch_size": 4,
            "window_size": 16,
            "fullatt_block_indexes": [1],
        }
        config: Any = transformers.Qwen2_5_VLConfig(
            vision_config=vision,
            text_config={**TEXT, "rope_parameters": rope},
            image_token_id=IMAGE_TOKEN,
            tie_word_embeddings=False,
        )
        model = transformers.Qwen2_5_VLForConditionalGeneration(config)
    else:
        vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "mlp_ratio": 2, "patch_size": 4}
        config = transformers.Qwen2VLConfig(
            vision_config=vision,
            text_config={**TEXT, "rope_parameters": rope},
            image_token_id=IMAGE_TOKEN,
            tie_word_embeddings=False,
        )
        model = transformers.Qwen2VLForConditionalGeneration(config)
    model = _ready(model, 3)
    published = {
        **TEXT,
        "model_type": "qwen2_5_vl" if gated else "qwen2_vl",
        "rope_theta": 1000000.0,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
        "rms_norm_eps": config.text_config.rms_norm_eps,
        "vision_config": vision,
    }
    return Reference(model, write_folder(model, folder, published, lambda key, value: {key: value}))


def hulu(folder: Path, *, three: bool) -> Reference:
    """Hulu-Med around Qwen2 (7B) or Qwen3 (4B): transformers' VideoLLaMA 3 under the published names."""
    vision = {
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "patch_size": 4,
    }
    rope = {"rope_type": "default", "rope_theta": 1000000.0}
    head = TEXT["hidden_size"] // TEXT["num_attention_heads"]
    text: Any = (
        transformers.Qwen3Config(**TEXT, head_dim=head, rope_parameters=rope)
        if three
        else transformers.Qwen2Config(**TEXT, rope_parameters=rope)
    )
    config = transformers.VideoLlama3Config(
        vision_config=vision, text_config=text, image_token_id=IMAGE_TOKEN, tie_word_embeddings=False
    )
    model = _ready(transformers.VideoLlama3ForConditionalGeneration(config), 5)
    published = {
        **TEXT,
        "model_type": "hulumed_qwen3" if three else "hulumed_qwen2",
        "head_dim": head,
        "rope_theta": 1000000.0,
        "rms_norm_eps": text.rms_norm_eps,
        "mm_projector_type": "mlp2x_gelu",
        "use_token_compression": True,
        "vision_encoder_config": vision,
        "auto_map": {"AutoModelForCausalLM": "modeling_hulumed_qwen2.Evil"},
    }

    def rename(key: str, value: Any) -> dict[str, Any]:
        for theirs, name in (
            ("model.vision_model.", "model.vision_encoder."),
            ("model.projector.", "model.mm_projector."),
            ("model.language_model.", "model."),
        ):
            if key.startswith(theirs):
                return {name + key.removeprefix(theirs): value}
        return {key: value}

    write_folder(model, folder, published, rename)
    processor = {
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "patch_size": 4,
        "max_tokens": 16384,
        "min_tokens": 16,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return Reference(model, folder)


def intern(folder: Path) -> Reference:
    """InternVL's own layout (Fleming-VL)."""
    vision = {
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "patch_size": 14,
    }
    config = transformers.InternVLConfig(
        vision_config={**vision, "image_size": [56, 56], "patch_size": [14, 14], "attention_bias": True},
        text_config=transformers.Qwen2Config(**TEXT, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
        image_token_id=IMAGE_TOKEN,
        tie_word_embeddings=False,
    )
    model = _ready(transformers.InternVLForConditionalGeneration(config), 4)
    merged: dict[str, dict[str, torch.Tensor]] = {}

    def rename(key: str, value: Any) -> dict[str, Any]:
        key = key.removeprefix("model.")
        for theirs, published in (
            ("language_model.model.", "language_model.model."),
            ("language_model.lm_head.", "language_model.lm_head."),
            ("lm_head.", "language_model.lm_head."),
            ("language_model.", "language_model.model."),
            ("multi_modal_projector.layer_norm.", "mlp1.0."),
            ("multi_modal_projector.linear_1.", "mlp1.1."),
            ("multi_modal_projector.linear_2.", "mlp1.3."),
        ):
            if key.startswith(theirs):
                return {published + key.removeprefix(theirs): value}
        for theirs, published in (
            ("vision_tower.", "vision_model."),
            ("encoder.layer.", "encoder.layers."),
            ("embeddings.cls_token", "embeddings.class_embedding"),
            ("embeddings.position_embeddings", "embeddings.position_embedding"),
            ("embeddings.patch_embeddings.projection", "embeddings.patch_embedding"),
            ("lambda_1", "ls1"),
            ("lambda_2", "ls2"),
            ("layernorm_before", "norm1"),
            ("layernorm_after", "norm2"),
            ("attention.projection_layer", "attn.proj"),
            ("attention.", "attn."),
        ):
            key = key.replace(theirs, published)
        for place, name in enumerate(("q_proj", "k_proj", "v_proj")):
            if f".{name}." in key:
                target = key.replace(name, "qkv")
                merged.setdefault(target, {})[str(place)] = value
                if len(merged[target]) < 3:
                    return {}
                return {target: torch.cat([merged[target][str(n)] for n in range(3)])}
        return {key: value}

    model.save_pretrained(folder)
    published = {
        "model_type": "internvl_chat",
        "force_image_size": 56,
        "downsample_ratio": 0.5,
        "select_layer": -1,
        "max_dynamic_patch": 6,
        "llm_config": {**TEXT, "model_type": "qwen2", "rope_theta": 1000000.0, "rms_norm_eps": 1e-6},
        "vision_config": vision,
    }
    return Reference(model, write_folder(model, folder, published, rename))
