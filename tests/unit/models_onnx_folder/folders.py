"""Small folders in the layout optimum and onnx-community publish: transformers' own networks, random weights, their graphs."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn

from models.export.card_text import toml_text

SIZE = 32
LABELS = ("NORMAL", "PNEUMOTHORAX", "EFFUSION")
VIT = {"image_processor_type": "ViTImageProcessor", "size": {"height": SIZE, "width": SIZE}, "resample": 2}
CLIP = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": SIZE},
    "resample": 3,
    "do_center_crop": True,
}
CLIP |= {"crop_size": {"height": SIZE, "width": SIZE}}
SEGFORMER = VIT | {"image_processor_type": "SegformerImageProcessor", "do_reduce_labels": True}
SIGLIP = VIT | {"image_processor_type": "SiglipImageProcessor", "resample": 3}
WORDS = "a chest radiograph with without air between the pleurae"
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


class Named(nn.Module):
    """A transformers network as a graph: positional inputs, chosen outputs."""

    def __init__(self, network: Any, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        self.inputs = inputs
        self.outputs = outputs

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        made = self.network(**dict(zip(self.inputs, given, strict=True)))
        return tuple(made[name] for name in self.outputs)


def concept(value: str, meaning: str, scheme: str = "SCT") -> dict[str, str]:
    return {"value": value, "scheme": scheme, "meaning": meaning}


PNEUMOTHORAX = concept("36118008", "Pneumothorax")
EFFUSION = concept("60046008", "Pleural effusion")


def card(output: str = "findings", **options: Any) -> dict[str, Any]:
    """What the engineer writes beside the folder."""
    made: dict[str, Any] = {
        "id": "published",
        "version": "1",
        "title": "Findings on a chest radiograph",
        "name": "Published",
        "manufacturer": "Somebody",
        "family": "feed_forward",
        "licence": "Apache-2.0",
        "intended_use": "test",
        "limitations": ["not_validated", "scores_are_no_diagnosis"],
        "finding": concept("404684003", "Clinical finding"),
        "site": concept("816094009", "Chest"),
        "inputs": [{"role": "image", "kind": "projection", "modality": "CR|DX"}],
        "options": {"output": output, "image": {"levels": "stored_range"}, **options},
    }
    if output == "findings":
        made["options"] |= {
            "left_out": ["NORMAL"],
            "findings": [
                {"label": "EFFUSION", "concept": EFFUSION, "operating_point": 0.5},
                {"label": "PNEUMOTHORAX", "concept": PNEUMOTHORAX, "operating_point": 0.5},
            ],
        } | options
    return made


def dual_card(head: str = "positive_against_negative") -> dict[str, Any]:
    made = card()
    classes = [
        {
            "name": "pneumothorax",
            "concept": PNEUMOTHORAX,
            "positive": ["a chest radiograph with air between the pleurae", "air between the pleurae"],
            "negative": ["a chest radiograph without air"],
        }
    ]
    options = {"head": head, "image": {"levels": "stored_range"}, "classes": classes}
    return {**made, "family": "image_text", "options": options}


def write_card(folder: Path, content: Mapping[str, Any]) -> None:
    (folder / "card.toml").write_text(toml_text(content), encoding="utf-8")


def randomised(network: nn.Module, seed: int) -> nn.Module:
    """Weights far enough from their start that an error shows."""
    torch.manual_seed(seed)
    for name, value in network.named_parameters():
        centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        if value.ndim:
            nn.init.normal_(value, centre, 0.15)
    return network.eval()


def written(network: Any, inputs: dict[str, Tensor], outputs: tuple[str, ...], path: Path) -> None:
    """Write a graph with every batch axis open, and the pixels' others too, as optimum does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = {name: {0: "batch_size"} for name in (*inputs, *outputs)}
    for name in inputs:
        axes[name] |= {1: "num_channels", 2: "height", 3: "width"} if name == "pixel_values" else {1: "sequence_length"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Named(network, tuple(inputs), outputs).eval(),
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )


def pixels() -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(2, 3, SIZE, SIZE)}


def classifier(folder: Path) -> Path:
    """A ViT classifier of three classes that exclude each other."""
    names = dict(enumerate(LABELS))
    config = transformers.ViTConfig(**SMALL, image_size=SIZE, patch_size=8, id2label=names, num_labels=3)
    config.problem_type = "single_label_classification"
    config._attn_implementation = "eager"
    network: Any = randomised(transformers.ViTForImageClassification(config), 1)
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(VIT))
    written(network, pixels(), ("logits",), folder / "onnx" / "model.onnx")
    return folder


def backbone(folder: Path) -> Path:
    """A ViT without a head; its graph gives tokens and the pooler's vector."""
    config = transformers.ViTConfig(**SMALL, image_size=SIZE, patch_size=8)
    config._attn_implementation = "eager"
    network: Any = randomised(transformers.ViTModel(config), 2)
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(VIT))
    written(network, pixels(), ("last_hidden_state", "pooler_output"), folder / "onnx" / "model.onnx")
    return folder


def segmenter(folder: Path) -> Path:
    """A SegFormer of three classes; its logits are a quarter of the image's size."""
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 16, 16, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        id2label=dict(enumerate(("background", "lung", "heart"))),
        num_labels=3,
    )
    network: Any = randomised(transformers.SegformerForSemanticSegmentation(config), 3)
    # No class is ahead everywhere.
    with torch.no_grad():
        network.decode_head.classifier.bias -= network(**pixels()).logits.mean((0, 2, 3))
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(SEGFORMER))
    written(network, pixels(), ("logits",), folder / "onnx" / "model.onnx")
    return folder


def _tokenizer(path: Path, end: int, start: int | None = None) -> None:
    words = {word: n for n, word in enumerate(["[unk]", "</s>" if end == 1 else "[pad]", *WORDS.split()])}
    words |= {"</s>": end} if end != 1 else {}
    words |= {"<s>": start} if start is not None else {}
    made = Tokenizer(WordLevel(words, unk_token="[unk]"))
    made.pre_tokenizer = WhitespaceSplit()
    special = [("</s>", end)] + ([("<s>", start)] if start is not None else [])
    template = "$A </s>" if start is None else "<s> $A </s>"
    made.post_processor = TemplateProcessing(single=template, special_tokens=special)
    made.save(str(path))


def clip(folder: Path) -> Path:
    """CLIP in two graphs, with its weights; ``joint/`` beside them: one graph that takes both, without weights."""
    text = SMALL | {"vocab_size": 20, "max_position_embeddings": 16, "bos_token_id": 18, "eos_token_id": 19}
    text |= {"projection_dim": 16}
    vision = SMALL | {"image_size": SIZE, "patch_size": 8, "projection_dim": 16}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    config._attn_implementation = "eager"
    network: Any = randomised(transformers.CLIPModel(config), 4)
    network.logit_scale.data.fill_(2.5)
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(CLIP))
    _tokenizer(folder / "tokenizer.json", 19, 18)
    halves = (transformers.CLIPVisionModelWithProjection, transformers.CLIPTextModelWithProjection)
    image, phrase = (each.from_pretrained(folder, attn_implementation="eager").eval() for each in halves)
    words = {"input_ids": torch.tensor([[18, 2, 3, 19], [18, 4, 5, 19]])}
    words["attention_mask"] = torch.ones_like(words["input_ids"])
    written(image, pixels(), ("image_embeds", "last_hidden_state"), folder / "onnx" / "vision_model.onnx")
    written(phrase, words, ("text_embeds", "last_hidden_state"), folder / "onnx" / "text_model.onnx")
    outputs = ("logits_per_image", "logits_per_text", "text_embeds", "image_embeds")
    both = {"input_ids": words["input_ids"], **pixels(), "attention_mask": words["attention_mask"]}
    joint = folder / "joint"
    written(network, both, outputs, joint / "onnx" / "model.onnx")
    for name in ("config.json", "preprocessor_config.json", "tokenizer.json"):
        (joint / name).write_bytes((folder / name).read_bytes())
    return folder


def siglip(folder: Path) -> Path:
    """SigLIP in two graphs without a mask, as they are published."""
    text = SMALL | {
        "vocab_size": 20,
        "max_position_embeddings": 12,
        "pad_token_id": 1,
        "eos_token_id": 1,
        "bos_token_id": 0,
    }
    vision = SMALL | {"image_size": SIZE, "patch_size": 8}
    config = transformers.SiglipConfig(text_config=text | {"projection_size": 32}, vision_config=vision)
    config._attn_implementation = "eager"
    network: Any = randomised(transformers.SiglipModel(config), 5)
    network.logit_scale.data.fill_(2.0)
    network.logit_bias.data.fill_(-3.0)
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(SIGLIP))
    _tokenizer(folder / "tokenizer.json", 1)
    # Released configurations leave the marks out.
    config = json.loads((folder / "config.json").read_text())
    for name in ("pad_token_id", "eos_token_id"):
        config["text_config"].pop(name)
    (folder / "config.json").write_text(json.dumps(config))
    words = {"input_ids": torch.randint(2, 10, (2, 12))}
    written(
        network.vision_model, pixels(), ("last_hidden_state", "pooler_output"), folder / "onnx" / "vision_model.onnx"
    )
    written(network.text_model, words, ("last_hidden_state", "pooler_output"), folder / "onnx" / "text_model.onnx")
    return folder
