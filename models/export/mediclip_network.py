"""MediCLIP as torch modules: adapters on CLIP's tokens, two text vectors from learnt prompts, a map (arXiv 2405.11315).

Source: models/Adapter.py, CoOp.py, MapMaker.py and Necker.py of cnulab/MediCLIP@e81f80d.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from models.errors import CheckpointMismatch
from models.export.clip_network import Clip

LAYERS = (12, 18, 24)
LEARNT = 8
"""Tokens of each prompt that are learnt."""
PROMPTS = {
    "normal": (
        "normal",
        "healthy",
        "negative",
        "unremarkable",
        "clear",
        "asymptomatic",
        "normal findings",
        "no findings",
        "in good health",
        "no evidence of disease",
    ),
    "abnormal": (
        "abnormal",
        "positive",
        "symptomatic",
        "disease",
        "lesion",
        "pathological",
        "impaired",
        "evidence of disease",
        "abnormal finding",
        "pathological condition",
        "pathological abnormality",
    ),
}
"""Words behind the learnt tokens, as config/brainmri.yaml, busi.yaml and chexpert.yaml have them."""


class Adapters(nn.Module):
    """Tokens of each layer to unit vectors (n, rows, columns, embedding)."""

    def __init__(self, width: int, embedding: int, count: int) -> None:
        super().__init__()
        for number in range(count):
            self.add_module(f"{number}_adapter", nn.Sequential(nn.Conv2d(width, embedding, 1, 1)))

    def forward(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        made = []
        for number, each in enumerate(tokens):
            side = round((each.shape[1] - 1) ** 0.5)
            grid = each[:, 1:].transpose(1, 2).unflatten(2, (side, side))
            features = getattr(self, f"{number}_adapter")(grid).permute(0, 2, 3, 1)
            made.append(features / features.norm(dim=-1, keepdim=True))
        return made


class Prompts(nn.Module):
    """The learnt tokens, under the released names."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ctx = nn.ParameterDict(
            {
                f"{kind}_end": nn.Parameter(torch.randn(len(words), LEARNT, width) * 0.02)
                for kind, words in PROMPTS.items()
            }
        )


def text_vectors(clip: Clip, prompts: Prompts, tokenizer: Tokenizer) -> Tensor:
    """Unit vectors (embedding, 2) of "normal" and "abnormal".

    Raises
    ------
    CheckpointMismatch
        The tokenizer is not CLIP's.
    """
    columns = []
    for kind, words in PROMPTS.items():
        ids = token_ids([" ".join(["X"] * LEARNT + [f"{word}."]) for word in words], tokenizer, clip)
        embedded = clip.token_embedding(ids)
        ctx = prompts.ctx[f"{kind}_end"]
        embedded = torch.cat([embedded[:, :1], ctx, embedded[:, 1 + LEARNT :]], 1)
        vector = clip.text_unmasked(embedded, ids.argmax(1)).mean(0)
        columns.append(vector / vector.norm())
    return torch.stack(columns, 1)


def token_ids(texts: Sequence[str], tokenizer: Tokenizer, clip: Clip) -> Tensor:
    """Ids (n, context): start, words, end, zeros.

    Raises
    ------
    CheckpointMismatch
        The end is not the highest id, by which it is found again.
    """
    context, vocabulary = clip.positional_embedding.shape[0], clip.token_embedding.weight.shape[0]
    ids = torch.zeros(len(texts), context, dtype=torch.long)
    for row, text in enumerate(texts):
        encoded = tokenizer.encode(text).ids
        if encoded[-1] != vocabulary - 1 or encoded[0] != vocabulary - 2 or len(encoded) > context:
            raise CheckpointMismatch(
                "tokenizer.json is not the one of this CLIP: start and end are not its last two tokens"
            )
        ids[row, : len(encoded)] = torch.tensor(encoded)
    return ids


def anomaly_map(features: Sequence[Tensor], text: Tensor, size: int) -> Tensor:
    """Probabilities (n, 2, size, size) of normal and abnormal."""
    maps = torch.stack([(each @ text).permute(0, 3, 1, 2) for each in features]).mean(0)
    return F.interpolate(maps, (size, size), mode="bilinear", align_corners=True).softmax(1)


class MediClip(nn.Module):
    """Image (n, 3, size, size) to how abnormal each place is (n, size, size)."""

    text: Tensor

    def __init__(self, clip: Clip, adapters: Adapters, text: Tensor, layers: tuple[int, ...], size: int) -> None:
        super().__init__()
        self.visual, self.adapters = clip.visual, adapters
        self.register_buffer("text", text)
        self._layers, self._size = layers, size

    def forward(self, image: Tensor) -> Tensor:
        return anomaly_map(self.adapters(self.visual(image, self._layers)), self.text, self._size)[:, 1]
