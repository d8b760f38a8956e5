"""Small folders in the released layouts of image–text models, with random weights."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn

from models.export.bert_network import BertShape
from models.export.clinical_bert import ClassTokenText, NormedProjectedText, ProjectedText
from models.export.flair import Flair, FlairImage
from models.export.imported import CARDS_FOLDER
from models.export.medclip import MedClip, _ResNetTower, _SwinTower
from models.export.renaming import Renaming
from models.export.swin_network import SwinShape
from models.export.vit_layouts import open_clip_text, open_clip_vision, siglip_text, siglip_vision, timm_vision
from models.export.vit_network import TextShape, TextTransformer, Vit, VitShape
from models.phrases import PhraseClass

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
JOINT = 16


def randomised(module: nn.Module, seed: int, spread: float = 0.15) -> nn.Module:
    """Random weights and statistics far enough from their start that an error shows."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.dtype.is_floating_point:
            centre = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            value.normal_(centre, spread, generator=generator)
    return module.eval()


def words_of(system: str) -> list[str]:
    """Every word of the phrases of a card's template."""
    options = tomllib.loads((CARDS_FOLDER / f"{system}.toml").read_text(encoding="utf-8"))["options"]
    found: dict[str, None] = {}
    for entry in options["classes"]:
        stated = PhraseClass.model_validate(entry)
        for phrase in (*stated.positive_phrases, *stated.negative):
            for word in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(phrase.lower()):
                found[word[0]] = None
    return [*SPECIAL, *found]


def write_bert(folder: Path, system: str, positions: int = 300) -> BertShape:
    """``vocab.txt`` and ``config.json`` of a small BERT that knows the words of the system's card."""
    words = words_of(system)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    config = {
        "vocab_size": len(words),
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": positions,
        "type_vocab_size": 2,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return BertShape(len(words), 32, 3, 4, 64, positions)


def write_medclip(folder: Path, *, resnet: bool = False) -> MedClip:
    """MedCLIP with the stale buffers that its released file holds."""
    shape = write_bert(folder, "medclip", 80)
    image: nn.Module = _ResNetTower((1, 1, 1, 1), 4, JOINT)
    if not resnet:
        image = _SwinTower(SwinShape(width=8, depths=(2, 1), heads=(1, 2)), JOINT)
    network = MedClip(image, ProjectedText(shape, JOINT))
    randomised(network, 5)
    network.logit_scale.data.fill_(2.0)
    state = dict(network.state_dict())
    state["text_model.model.embeddings.position_ids"] = torch.arange(shape.positions)[None]
    if not resnet:
        place = "vision_model.model.encoder.layers.0.blocks.0.attention.self.relative_position_index"
        state[place] = torch.zeros(49, 49, dtype=torch.int64)
    torch.save(state, folder / "pytorch_model.bin")
    return network


def write_flair(folder: Path) -> Flair:
    """FLAIR."""
    network = Flair(FlairImage((1, 1, 1, 1), 4, JOINT), NormedProjectedText(write_bert(folder, "flair"), JOINT))
    randomised(network, 6)
    network.logit_scale.data.fill_(9.0)
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    return network


def write_open_clip(folder: Path, system: str) -> tuple[Vit, ClassTokenText]:
    """BiomedCLIP (timm's names) or UniMed-CLIP (open_clip's own)."""
    timm = system == "biomedclip"
    shape = VitShape(48, 16, 32, 2, 2, 64, JOINT, patch_bias=timm, pre_norm=not timm)
    if not timm:
        shape = VitShape(48, 16, 32, 2, 2, 64, JOINT, patch_bias=False, pre_norm=True, gelu="quick", epsilon=1e-5)
    image, text = Vit(shape), ClassTokenText(write_bert(folder, system), JOINT)
    randomised(image, 7)
    randomised(text, 8)
    vision = timm_vision("visual.trunk.", "visual.head.proj.") if timm else open_clip_vision()
    prefix = "text" if timm else "text_encoder"
    names = Renaming(((r"transformer\.(.*)", rf"{prefix}.transformer.\1"), (r"proj\.(.*)", rf"{prefix}.proj.\1")))
    state = {**vision.published(image), **names.published(text), "logit_scale": torch.tensor(3.0)}
    if timm:
        state["text.transformer.embeddings.position_ids"] = torch.arange(300)[None]
        torch.save(state, folder / "open_clip_pytorch_model.bin")
    else:
        torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, folder / "unimed.pt")
    return image, text


def write_knobo(folder: Path) -> tuple[Vit, TextTransformer]:
    """A CLIP of open_clip's own layout, a bank of concepts and a head."""
    image = Vit(VitShape(48, 16, 32, 2, 2, 64, JOINT, patch_bias=False, pre_norm=True, epsilon=1e-5))
    concepts = ["lobar opacity", "clear lungs", "air bronchogram"]
    known = ["<start>", *dict.fromkeys(" ".join(concepts).split()), "<unk>", "<end>"]
    words = {word: n for n, word in enumerate(known)}
    text = TextTransformer(TextShape(len(words), 12, 32, 2, 2, 64, JOINT, "end", "exact"))
    randomised(image, 11)
    randomised(text, 12)
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = [("<start>", 0), ("<end>", len(words) - 1)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=marks)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "concepts.txt").write_text("\n".join(concepts) + "\n", encoding="utf-8")
    head = {"linear.weight": torch.tensor([[-9.0, 9, 0], [9, -9, 4]]), "linear.bias": torch.tensor([0.1, -0.1])}
    save(head, folder / "head.pt")
    state = open_clip_vision().published(image) | open_clip_text().published(text)
    save(state | {"logit_scale": torch.tensor(3.0)}, folder / "open_clip_pytorch_model.bin")
    return image, text


def write_medsiglip(folder: Path) -> tuple[Vit, TextTransformer]:
    """MedSigLIP with a tokenizer of whole words."""
    image = Vit(VitShape(56, 14, 32, 2, 2, 48, 0, class_token=False, gelu="tanh"))
    words = {word: n for n, word in enumerate(["<pad>", "</s>", "<unk>", *words_of("medsiglip")])}
    text = TextTransformer(TextShape(len(words), 64, 32, 2, 2, 48, 32, "last", "tanh", 1e-6, True))
    randomised(image, 9)
    randomised(text, 10)
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "vision_config": _sizes(32, 2, 2, 48) | {"image_size": 56, "patch_size": 14},
        "text_config": _sizes(32, 2, 2, 48) | {"vocab_size": len(words), "max_position_embeddings": 64},
    }
    (folder / "config.json").write_text(json.dumps(config))
    state = siglip_vision().published(image) | siglip_text().published(text)
    state |= {"logit_scale": torch.tensor([4.7]), "logit_bias": torch.tensor([-16.0])}
    save(state, folder / "pytorch_model.bin")
    return image, text


def save(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a plain state dict."""
    torch.save(dict(state), path)


def _sizes(width: int, depth: int, heads: int, hidden: int) -> dict[str, int]:
    return {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "intermediate_size": hidden,
    }
