"""BioViL-T: image encoder with an optional earlier image, and CXR-BERT's projected sentence.

Bannur et al. 2023, Learning to exploit temporal structure for biomedical vision-language processing (arXiv 2301.04558);
parameter names as in microsoft/hi-ml, ``hi-ml-multimodal/src/health_multimodal``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.bert_network import Bert, BertShape
from models.export.resnet_network import ResNet

_HEADS = 8
_BLOCKS = 3


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj_q, self.proj_k, self.proj_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (p(x).unflatten(-1, (_HEADS, -1)).transpose(1, 2) for p in (self.proj_q, self.proj_k, self.proj_v))
        weights = ((q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, width), "fc2": nn.Linear(width, width)})

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x) + place)
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class _Pooler(nn.Module):
    """Patches of both images attend to each other; what comes out at the places of the current one says what changed."""

    place: Tensor

    def __init__(self, width: int, grid: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(width) for _ in range(_BLOCKS))
        self.norm_post = nn.LayerNorm(width, eps=1e-6)
        self.type_embed = nn.Parameter(torch.zeros(2, 1, width))
        self.register_buffer("place", _sine_places(grid, width // 2), persistent=False)

    def forward(self, current: Tensor, prior: Tensor) -> Tensor:
        tokens = current.shape[1]
        x = torch.cat([current, prior], 1)
        place = torch.cat([self.place + self.type_embed[0], self.place + self.type_embed[1]], 1)
        for block in self.blocks:
            x = block(x, place)
        return self.norm_post(x)[:, :tokens]


def _sine_places(grid: int, width: int) -> Tensor:
    """(1, grid × grid, 2 × width): sines and cosines of row, then of column, as DETR has them (arXiv 2005.12872)."""
    steps = torch.arange(1, grid + 1, dtype=torch.float32) / (grid + 1e-6) * (2 * math.pi)
    channel = torch.arange(width, dtype=torch.float32)
    angles = steps[:, None] / 10000 ** (2 * torch.div(channel, 2, rounding_mode="floor") / width)
    waves = torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], -1).flatten(1)
    rows, columns = waves[:, None, :].expand(grid, grid, width), waves[None, :, :].expand(grid, grid, width)
    return torch.cat([rows, columns], -1).reshape(1, grid * grid, 2 * width)


class _MultiImageEncoder(nn.Module):
    def __init__(self, backbone: ResNet, features: int, width: int, grid: int) -> None:
        super().__init__()
        self.encoder = backbone
        self.backbone_to_vit = nn.Conv2d(features, width, 1, bias=False)
        self.vit_pooler = _Pooler(width, grid)
        self.missing_previous_emb = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, current: Tensor, prior: Tensor, has_prior: Tensor) -> Tensor:
        patches, before = (self.backbone_to_vit(self.encoder(image)) for image in (current, prior))
        rows, columns = patches.shape[-2:]
        tokens = (x.flatten(2).transpose(1, 2) for x in (patches, before))
        change = self.vit_pooler(*tokens).transpose(1, 2).unflatten(-1, (rows, columns))
        absent = self.missing_previous_emb.expand_as(change)
        return torch.cat([patches, torch.where(has_prior[:, None, None, None] > 0.5, change, absent)], 1)


class BioVilTImage(nn.Module):
    """Images (n, 3, size, size), an earlier one (anything where there is none), and 1 or 0 for whether there is.

    Gives the global embedding (n, joint) and those of the patches (n, joint, grid, grid), none of them normalised. The
    global one is the mean over the projected patches.
    """

    def __init__(
        self,
        *,
        blocks: tuple[int, ...] = (3, 4, 6, 3),
        first: int = 64,
        classes: int = 1000,
        width: int = 256,
        joint: int = 128,
        grid: int = 14,
    ) -> None:
        super().__init__()
        features = (first << (len(blocks) - 1)) * 4
        self.encoder = _MultiImageEncoder(ResNet(blocks, first, classes), features, width, grid)
        self.projector = nn.ModuleDict(
            {
                "model": nn.Sequential(
                    nn.Conv2d(2 * width, joint, 1, bias=False),
                    nn.BatchNorm2d(joint),
                    nn.ReLU(),
                    nn.Conv2d(joint, joint, 1),
                )
            }
        )

    def forward(self, current: Tensor, prior: Tensor, has_prior: Tensor) -> tuple[Tensor, Tensor]:
        patches = self.projector["model"](self.encoder(current, prior, has_prior))
        return patches.mean((2, 3)), patches


class _ProjectionHead(nn.Module):
    def __init__(self, width: int, joint: int) -> None:
        super().__init__()
        self.dense_to_hidden = nn.Linear(width, joint)
        self.LayerNorm = nn.LayerNorm(joint, eps=1e-12)
        self.dense_to_output = nn.Linear(joint, joint)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense_to_output(self.LayerNorm(F.gelu(self.dense_to_hidden(x))))


class CxrBert(nn.Module):
    """Token ids and mask to the sentence's projected embedding (n, joint), not normalised."""

    def __init__(self, shape: BertShape, joint: int = 128) -> None:
        super().__init__()
        self.bert = Bert(shape)
        self.cls_projection_head = _ProjectionHead(shape.width, joint)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.cls_projection_head(self.bert(ids, mask)[-1][:, 0])
