"""From a vision tower to what a language model reads: the projectors of LLaVA, Gemma 3 and InternVL."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.decoder_network import RootMeanSquare
from models.export.intern_vision_network import InternVision
from models.export.patch_encoder_network import PatchEncoder


class LlavaVision(nn.Module):
    """CLIP patches through two linear layers (``mm_projector`` of type mlp2x_gelu)."""

    def __init__(self, tower: PatchEncoder, width: int) -> None:
        super().__init__()
        self.vision_model = tower
        self.mm_projector = nn.Sequential(nn.Linear(tower.shape.width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.mm_projector(self.vision_model(pixel_values))


class GemmaProjector(nn.Module):
    """Patches averaged to a smaller square, normalised, projected."""

    def __init__(self, inward: int, width: int, grid: int, side: int, epsilon: float) -> None:
        super().__init__()
        self._grid, self._kernel = grid, grid // side
        self.mm_soft_emb_norm = RootMeanSquare(inward, epsilon, plus_one=True)
        self.mm_input_projection_weight = nn.Parameter(torch.zeros(inward, width))

    def forward(self, patches: Tensor) -> Tensor:
        square = patches.transpose(1, 2).unflatten(2, (self._grid, self._grid))
        pooled = F.avg_pool2d(square, self._kernel).flatten(2).transpose(1, 2)
        return self.mm_soft_emb_norm(pooled) @ self.mm_input_projection_weight


class GemmaVision(nn.Module):
    """SigLIP patches to ``tokens`` per image."""

    def __init__(self, tower: PatchEncoder, width: int, tokens: int, epsilon: float) -> None:
        super().__init__()
        shape = tower.shape
        self.vision_model = tower
        self.multi_modal_projector = GemmaProjector(
            shape.width, width, shape.size // shape.patch, int(tokens**0.5), epsilon
        )

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.multi_modal_projector(self.vision_model(pixel_values))


class InternProjection(nn.Module):
    """Patches of InternViT, four of them folded into one, through ``mlp1``."""

    def __init__(self, tower: InternVision, width: int) -> None:
        super().__init__()
        inward = tower.shape.width * 4
        self.vision_model = tower
        self.mlp1 = nn.Sequential(nn.LayerNorm(inward), nn.Linear(inward, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, pixel_values: Tensor) -> Tensor:
        patches = self.vision_model(pixel_values)
        side = self.vision_model.shape.size // self.vision_model.shape.patch
        half, width = side // 2, patches.shape[-1]
        # Pixel unshuffle of version 2: columns are folded first, then rows.
        x = patches.reshape(-1, side, half, 2 * width).permute(0, 2, 1, 3)
        x = x.reshape(-1, half, half, 4 * width).permute(0, 2, 1, 3)
        return self.mlp1(x.reshape(-1, half * half, 4 * width))
