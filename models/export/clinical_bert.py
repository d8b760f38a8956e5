"""Sentence towers over a BERT: which hidden states, what mean, what projection, with the published parameter names."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.bert_network import Bert, BertShape

STALE = "embeddings.position_ids"
"""Buffer of files written by old versions of transformers; it says nothing."""
_HIDDEN = (1, 2, -1)


class PooledBert(Bert):
    """A BERT with the pooler that published files carry; it is loaded and not used."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__(shape)
        self.pooler = nn.ModuleDict({"dense": nn.Linear(shape.width, shape.width)})


def mean_of_hidden(states: list[Tensor]) -> Tensor:
    """Mean of the first, second and last hidden state over all tokens, padding among them; (n, width).

    So padding counts: one sentence has another vector beside longer ones. Callers embed the phrases of a class together.
    """
    return torch.stack([states[n] for n in _HIDDEN]).mean((0, 2))


class ProjectedText(nn.Module):
    """``model`` and ``projection_head`` of MedCLIP; token ids and mask to vectors (n, joint), not normalised."""

    def __init__(self, shape: BertShape, joint: int) -> None:
        super().__init__()
        self.model = PooledBert(shape)
        self.projection_head = nn.Linear(shape.width, joint, bias=False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.projection_head(mean_of_hidden(self.model(ids, mask)))


class NormedProjectedText(nn.Module):
    """The same in FLAIR: normalised before the projection, too."""

    def __init__(self, shape: BertShape, joint: int) -> None:
        super().__init__()
        self.model = PooledBert(shape)
        self.projection_head_text = nn.ModuleDict({"projection": nn.Linear(shape.width, joint, bias=False)})

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        pooled = F.normalize(mean_of_hidden(self.model(ids, mask)), dim=-1)
        return self.projection_head_text["projection"](pooled)


class ClassTokenText(nn.Module):
    """open_clip's ``HFTextEncoder``: the class token's last state, through two layers without bias."""

    def __init__(self, shape: BertShape, joint: int) -> None:
        super().__init__()
        self.transformer = Bert(shape)
        inner = (shape.width + joint) // 2
        self.proj = nn.Sequential(
            nn.Linear(shape.width, inner, bias=False), nn.GELU(), nn.Linear(inner, joint, bias=False)
        )

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.proj(self.transformer(ids, mask)[-1][:, 0])
