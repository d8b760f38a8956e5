"""Tiny models that know one thing: two sentences in two languages, and where a bright square is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models

from tests.unit.models_generation import florence_reference
from tests.unit.models_generation.florence_reference import published_key

PIXELS = 32
SENTENCES = {
    ("left", "en"): ["Pleural effusion ", "on the ", "left. ", "No pneumothorax."],
    ("right", "en"): ["Pleural effusion ", "on the ", "right. ", "No pneumothorax."],
    ("left", "ja"): ["左側に", "胸水を認める。", "気胸は認めない。"],
    ("right", "ja"): ["右側に", "胸水を認める。", "気胸は認めない。"],
}
WORDS = ["<pad>", "<s>", "</s>", "<unk>", "<en>", "<ja>"]
WORDS += list(dict.fromkeys(word for sentence in SENTENCES.values() for word in sentence))
LANGUAGES = {"en": WORDS.index("<en>"), "ja": WORDS.index("<ja>")}


def picture(side: str, generator: torch.Generator) -> torch.Tensor:
    """One half bright, with noise; normalised as the card does it (mean and deviation one half)."""
    image = torch.rand(1, PIXELS, PIXELS, generator=generator) * 0.2
    half = PIXELS // 2
    image[:, :, slice(0, half) if side == "left" else slice(half, PIXELS)] += 0.8
    return (image.expand(3, -1, -1) - 0.5) / 0.5


def report_generator(folder: Path) -> Path:
    """ViT and GPT-2 trained to say the sentence of the brighter side in the language of the first token."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    encoder = transformers.ViTConfig(
        image_size=PIXELS, patch_size=8, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, initializer_range=0.15,
    )  # fmt: skip
    decoder = transformers.GPT2Config(
        vocab_size=len(WORDS), n_embd=32, n_layer=1, n_head=2, n_positions=16, add_cross_attention=True,
        bos_token_id=1, eos_token_id=2, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0, initializer_range=0.15,
    )  # fmt: skip
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    model = transformers.VisionEncoderDecoderModel(config=config)
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    said = [
        (side, [1, LANGUAGES[language], *map(WORDS.index, words), 2]) for (side, language), words in SENTENCES.items()
    ]
    longest = max(len(ids) for _, ids in said)
    ids = torch.tensor([tokens + [0] * (longest - len(tokens)) for _, tokens in said])
    for _ in range(400):
        pixels = torch.stack([picture(side, generator) for side, _ in said])
        logits = model(pixel_values=pixels, decoder_input_ids=ids[:, :-1]).logits
        # What language is asked for is given, not learnt.
        loss = torch.nn.functional.cross_entropy(logits[:, 1:].flatten(0, 1), ids[:, 2:].flatten(), ignore_index=0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if loss.item() < 0.002:
            break
    assert loss.item() < 0.05
    model.generation_config.update(decoder_start_token_id=1, eos_token_id=2, pad_token_id=0, max_length=14)
    model.save_pretrained(folder)
    _vocabulary(WORDS).save(str(folder / "tokenizer.json"))
    processor = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


SIDE = 64
CELL = 16
PLACES = [f"<loc_{n}>" for n in (0, 250, 500, 750, 999)]
POINTED = ["<s>", "<pad>", "</s>", "<unk>", "bright square", "find the bright square", *PLACES]
ASKED = POINTED.index("find the bright square")


def square(row: int, column: int, noise: torch.Tensor) -> torch.Tensor:
    """A bright square in one of four by four cells."""
    image = noise * 0.2
    image[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] += 0.8
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((image[..., None] - mean) / std).permute(2, 0, 1)


def grounding_model(folder: Path) -> Path:
    """Florence-2 trained to answer with the label and the four places of the square."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    text = {**florence_reference.TEXT, "vocab_size": len(POINTED) + 1, "encoder_layers": 1, "decoder_layers": 1}
    stages = {**florence_reference.STAGES, "window_size": 4}
    image_token = len(POINTED)
    config = transformers.Florence2Config(
        vision_config={
            **stages,
            "embed_dim": [16, 32],
            "projection_dim": 32,
            "max_temporal_embeddings": 5,
            "max_position_embeddings": 12,
            "drop_path_rate": 0.0,
        },
        text_config=transformers.BartConfig(
            **text, dropout=0.0, bos_token_id=0, eos_token_id=2, pad_token_id=1, decoder_start_token_id=2
        ),
        image_token_id=image_token,
    )
    model: Any = transformers.Florence2ForConditionalGeneration(config)
    tokens = (SIDE // 8) ** 2 + 1
    cells = [(row, column) for row in range(4) for column in range(4)]
    prompt = torch.tensor([[*([image_token] * tokens), 0, ASKED, 2]] * len(cells))
    answers = torch.tensor([[2, 4, *_places(row, column), 2] for row, column in cells])
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(260):
        noise = torch.rand(len(cells), SIDE, SIDE, generator=generator)
        pixels = torch.stack([square(row, column, noise[n]) for n, (row, column) in enumerate(cells)])
        logits = model(input_ids=prompt, pixel_values=pixels, decoder_input_ids=answers[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), answers[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if loss.item() < 0.01:
            break
    assert loss.item() < 0.05
    _save_florence(model, folder, stages, text)
    return folder


def _places(row: int, column: int) -> Sequence[int]:
    names = [PLACES[n] for n in (column, row, column + 1, row + 1)]
    return [POINTED.index(name) for name in names]


def _save_florence(model: Any, folder: Path, stages: dict[str, Any], text: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    tensors = {}
    for key, value in model.state_dict().items():
        name = published_key(key)
        tensors[name] = (value.T if name == "image_projection" else value).clone().contiguous()
    tensors["language_model.final_logits_bias"] = torch.zeros(1, text["vocab_size"])
    save_file(tensors, folder / "model.safetensors")
    published = {
        "vision_config": {
            **stages,
            "dim_embed": [16, 32],
            "projection_dim": 32,
            "image_pos_embed": {"max_pos_embeddings": 12},
            "visual_temporal_embedding": {"max_temporal_embeddings": 5},
        },
        "text_config": {**text, "decoder_start_token_id": 2, "no_repeat_ngram_size": 0},
    }
    (folder / "config.json").write_text(json.dumps(published))
    _vocabulary([*POINTED, "<image>"]).save(str(folder / "tokenizer.json"))


def _vocabulary(words: Sequence[str]) -> Tokenizer:
    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    made.add_special_tokens([word for word in words if word.startswith("<") and word not in (*PLACES, "<unk>")])
    made.decoder = decoders.Fuse()
    return made
