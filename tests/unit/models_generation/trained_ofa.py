"""A tiny BiomedGPT that knows one thing: which half of an image is bright, asked in two ways."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from models.export.byte_pairs import byte_pair_tokenizer
from tests.unit.models_generation import ofa_reference
from tests.unit.models_generation.ofa_reference import Reference, Sizes

PIXELS = 32
SEEN = "what does the image describe?"
ASKED = "which lung is clear?"
WORDS = ("what", "does", "the", "image", "describe", "which", "lung", "is", "clear", "effusion", "left", "right")
ANSWERS = {
    (SEEN, "left"): "effusion left",
    (SEEN, "right"): "effusion right",
    (ASKED, "left"): "right lung clear",
    (ASKED, "right"): "left lung clear",
}


def picture(side: str, generator: torch.Generator) -> Tensor:
    """One half bright, with noise; normalised as the card does it (mean and deviation one half)."""
    image = torch.rand(1, PIXELS, PIXELS, generator=generator) * 0.2
    image[:, :, slice(0, 16) if side == "left" else slice(16, 32)] += 0.8
    return (image.expand(3, -1, -1) - 0.5) / 0.5


def biomedgpt(folder: Path) -> Path:
    """Train the plain reference to answer, and write the folder of a release."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    sizes = Sizes(ofa_reference.write_vocabulary(folder, WORDS), encoder_layers=1, decoder_layers=1)
    tensors = ofa_reference.checkpoint(sizes, 0, 0.12)
    shared = tensors["encoder.embed_tokens.weight"]
    # The stem stays as it is: where an image is bright comes through it anyhow.
    trained = [
        value for key, value in tensors.items()
        if value.dtype == torch.float32 and not key.startswith("encoder.embed_images.") and value is not shared
    ]  # fmt: skip
    for value in (*trained, shared):
        value.requires_grad_()
    reference = Reference(sizes, tensors)
    tokenizer = byte_pair_tokenizer(folder)
    said = [
        (side, [0, *tokenizer.encode(f" {question}").ids, 2], [0, *tokenizer.encode(f" {answer}").ids, 2])
        for (question, side), answer in ANSWERS.items()
    ]
    optimiser = torch.optim.AdamW([*trained, shared], lr=6e-3, weight_decay=0.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        loss = torch.zeros(())
        for side, prompt, answer in said:
            logits = reference.logits(reference.encode(picture(side, generator), prompt), answer[:-1])
            loss = loss + torch.nn.functional.cross_entropy(logits, torch.tensor(answer[1:])) / len(said)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if loss.item() < 0.01:
            break
    assert loss.item() < 0.05
    torch.save({key: value.detach() for key, value in tensors.items()}, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps({"model_type": "ofa", "patch_image_size": PIXELS}))
    return folder
