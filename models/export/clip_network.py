"""CLIP with a vision transformer as torch modules with OpenAI's parameter names (Radford et al. 2021, arXiv 2103.00020)."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.errors import CheckpointMismatch

_HEAD = 64
"""Width of one attention head in every released model."""


@dataclass(frozen=True, slots=True)
class ClipShape:
    """Sizes; the defaults are those of ViT-L/14 at 224 pixels."""

    size: int = 224
    patch: int = 14
    width: int = 1024
    layers: int = 24
    text_width: int = 768
    text_layers: int = 12
    context: int = 77
    vocabulary: int = 49408
    embedding: int = 768


class _QuickGelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class _Block(nn.Module):
    """Attention and a perceptron, each behind a layer norm and beside a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, max(width // _HEAD, 1), batch_first=True)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), gelu=_QuickGelu(), c_proj=nn.Linear(4 * width, width))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class _Transformer(nn.Module):
    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(_Block(width) for _ in range(layers))


class ClipVision(nn.Module):
    """Image (n, 3, size, size) to the tokens (n, 1 + patches, width) after the layers asked for, counted from 1."""

    def __init__(self, shape: ClipShape) -> None:
        super().__init__()
        width = shape.width
        self.conv1 = nn.Conv2d(3, width, shape.patch, shape.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros((shape.size // shape.patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = _Transformer(width, shape.layers)
        self.proj = nn.Parameter(torch.zeros(width, shape.embedding))

    def forward(self, image: Tensor, layers: tuple[int, ...]) -> list[Tensor]:
        patches = self.conv1(image).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(patches.shape[0], 1, -1)
        x = self.ln_pre(torch.cat([first, patches], 1) + self.positional_embedding)
        made = []
        for number, block in enumerate(self.transformer.resblocks, start=1):
            x = block(x)
            if number in layers:
                made.append(x)
        return made


class Clip(nn.Module):
    """Both towers under OpenAI's names."""

    def __init__(self, shape: ClipShape) -> None:
        super().__init__()
        self.visual = ClipVision(shape)
        self.transformer = _Transformer(shape.text_width, shape.text_layers)
        self.token_embedding = nn.Embedding(shape.vocabulary, shape.text_width)
        self.positional_embedding = nn.Parameter(torch.zeros(shape.context, shape.text_width))
        self.ln_final = nn.LayerNorm(shape.text_width)
        self.text_projection = nn.Parameter(torch.zeros(shape.text_width, shape.embedding))
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def text_unmasked(self, embedded: Tensor, ends: Tensor) -> Tensor:
        """Vectors (n, embedding) of embedded tokens (n, context, width), read at ``ends``.

        Every token sees every other one: MediCLIP leaves CLIP's causal mask out.
        """
        x = embedded + self.positional_embedding
        for block in self.transformer.resblocks:
            x = block(x)
        x = self.ln_final(x)
        return x[torch.arange(x.shape[0]), ends] @ self.text_projection


def clip_shape_of(tensors: Mapping[str, Tensor]) -> ClipShape:
    """Sizes of the network a state dict is of.

    Raises
    ------
    CheckpointMismatch
        A tensor that tells a size is missing.
    """
    try:
        width, _, patch, _ = tensors["visual.conv1.weight"].shape
        side = round((tensors["visual.positional_embedding"].shape[0] - 1) ** 0.5)
        context, text_width = tensors["positional_embedding"].shape
        vocabulary = tensors["token_embedding.weight"].shape[0]
        embedding = tensors["text_projection"].shape[1]
    except (KeyError, ValueError) as error:
        raise CheckpointMismatch(f"not CLIP with a vision transformer in OpenAI's layout: {error}") from error
    layers = {
        prefix: len({m[1] for key in tensors if (m := re.match(rf"{re.escape(prefix)}resblocks\.(\d+)\.", key))})
        for prefix in ("visual.transformer.", "transformer.")
    }
    return ClipShape(
        side * patch,
        patch,
        width,
        layers["visual.transformer."],
        text_width,
        layers["transformer."],
        context,
        vocabulary,
        embedding,
    )
