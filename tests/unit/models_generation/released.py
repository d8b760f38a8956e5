"""Small checkpoints as their publishers lay them out, and what transformers makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
PAD, START, STOP = 0, 1, 2


def randomised(module: torch.nn.Module, seed: int = 0, *, spread: float = 0.3) -> torch.nn.Module:
    """Weights so far from their start that tokens vary and an error shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            centre = 1.0 if "norm" in name.lower() and name.endswith("weight") and "gemma" not in name else 0.0
            value.copy_(torch.randn(value.shape, generator=generator) * spread + centre)
    return module.eval()


def character_tokenizer(alphabet: str, *, special: Sequence[str] = SPECIAL, size: int = 0) -> Tokenizer:
    """One token a character; ``size`` fills the vocabulary up with tokens that never come out of text."""
    words = [*special, *dict.fromkeys(alphabet)]
    words += [f"[{n}]" for n in range(len(words), size)]
    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    made.add_special_tokens([each for each in special if each != "<unk>"])
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    made.decoder = decoders.Fuse()
    return made


def ids_of(generated: torch.Tensor, prompt: int, stop: int = STOP, pad: int = PAD) -> list[int]:
    """Tokens transformers made, without prompt, padding and stop token."""
    tokens = generated[0, prompt:].tolist()
    if stop in tokens:
        return tokens[: tokens.index(stop)]
    while tokens and tokens[-1] == pad:
        tokens.pop()
    return tokens


def save(model: Any, folder: Path, tokenizer: Tokenizer) -> Path:
    """``save_pretrained``, which writes the published layout, and the vocabulary."""
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
