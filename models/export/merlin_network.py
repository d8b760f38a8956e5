"""Merlin's image tower: a ResNet-152 inflated to three dimensions (Carreira and Zisserman 2017, arXiv 1705.07750).

Parameter names are those of the released checkpoint. Inflation gives the stem and the middle convolutions three slices,
and strides along them as along rows and columns, but for the stem's.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from models.export.bert_network import BertShape
from models.export.clinical_bert import PooledBert

_EXPANSION = 4
_FEW_TOKENS = 256
"""Up to here each of Longformer's tokens sees all others, as every token of a BERT does; phrases are shorter."""


class _Bottleneck(nn.Module):
    def __init__(self, inward: int, width: int, stride: int) -> None:
        super().__init__()
        outward = width * _EXPANSION
        self.conv1, self.bn1 = nn.Conv3d(inward, width, 1, bias=False), nn.BatchNorm3d(width)
        self.conv2, self.bn2 = nn.Conv3d(width, width, 3, stride, 1, bias=False), nn.BatchNorm3d(width)
        self.conv3, self.bn3 = nn.Conv3d(width, outward, 1, bias=False), nn.BatchNorm3d(outward)
        self.downsample: nn.Module | None = None
        if stride != 1 or inward != outward:
            self.downsample = nn.Sequential(nn.Conv3d(inward, outward, 1, stride, bias=False), nn.BatchNorm3d(outward))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class InflatedResNet(nn.Module):
    """Volume (n, 1, x, y, z) to the contrastive vector (n, joint), not normalised, and phenotype logits (n, phenotypes)."""

    def __init__(
        self, blocks: Sequence[int] = (3, 8, 36, 3), first: int = 64, joint: int = 512, phenotypes: int = 1692
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, first, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
        self.bn1 = nn.BatchNorm3d(first)
        inward = first
        for number, count in enumerate(blocks):
            width = first << number
            stage = [
                _Bottleneck(inward if n == 0 else width * _EXPANSION, width, 2 if number and not n else 1)
                for n in range(count)
            ]
            setattr(self, f"layer{number + 1}", nn.Sequential(*stage))
            inward = width * _EXPANSION
        self.classifier = nn.Conv3d(inward, phenotypes, 1)
        self.contrastive_head = nn.Conv3d(inward, joint, 1)
        self._stages = len(blocks)

    def forward(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        x = volume.permute(0, 1, 4, 2, 3).expand(-1, 3, -1, -1, -1)
        x = F.max_pool3d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for number in range(self._stages):
            x = getattr(self, f"layer{number + 1}")(x)
        pooled = x.mean((2, 3, 4), keepdim=True)
        return self.contrastive_head(pooled).flatten(1), self.classifier(pooled).flatten(1)


class LongformerText(nn.Module):
    """Token ids and mask of short phrases to vectors (n, joint), not normalised: Longformer without global tokens."""

    def __init__(self, shape: BertShape, joint: int) -> None:
        super().__init__()
        self.text_encoder = PooledBert(shape)
        self.linear_layer = nn.Linear(shape.width, joint)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        if ids.shape[1] > _FEW_TOKENS:
            raise ValueError(f"a phrase has at most {_FEW_TOKENS} tokens")
        return self.linear_layer(self.text_encoder(ids, mask)[-1][:, 0])
