"""SAM-Med3D as torch modules with the released parameter names (Wang et al. 2023, arXiv 2310.15161).

A volume and clicks to a mask. Two things are as the released code computes them rather than as one would expect, because
the weights were trained with them: which key axis the relative positions are added along
(``segment_anything/modeling/image_encoder3D.py``), and that the grid's first coordinate is the second axis
(``prompt_encoder3D.py``). Both are harmless where all sides are equal, and all are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.sam_network import Head, Mlp, SamShape, TwoWayTransformer

_MASK_CHANNELS = 16
_IOU_HIDDEN = 256


VIT_B_ORI = SamShape(image_size=128, prompt_width=384)
"""Sizes of ``vit_b_ori``, which sam_med3d_turbo.pth is of; sides are those of cubes."""


class VolumeNorm(nn.Module):
    """Layer normalisation over the channels of (n, c, d, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        scaled = centred * torch.rsqrt(centred.square().mean(1, keepdim=True) + 1e-6)
        return scaled * self.weight[:, None, None, None] + self.bias[:, None, None, None]


class CubeAttention(nn.Module):
    """Attention over a cube of patches, one head after the other: a window's scores alone are 30 MB for each."""

    offsets: Tensor

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads, self.side = heads, side
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.rel_pos_d, self.rel_pos_h, self.rel_pos_w = (
            nn.Parameter(torch.zeros(2 * side - 1, width // heads)) for _ in range(3)
        )
        steps = torch.arange(side)
        self.register_buffer("offsets", steps[:, None] - steps[None, :] + side - 1, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(windows, side, side, side, width) to the same."""
        windows, side, tokens = x.shape[0], self.side, self.side**3
        q, k, v = self.qkv(x).reshape(windows, tokens, 3, self.heads, -1).permute(2, 3, 0, 1, 4).unbind(0)
        parts = [self._attend(q[n], k[n], v[n]) for n in range(self.heads)]
        return self.proj(torch.cat(parts, -1).reshape(windows, side, side, side, -1))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        side, tokens = self.side, self.side**3
        placed = q.reshape(-1, side, side, side, q.shape[-1])
        by_d = torch.einsum("ndhwc,dkc->ndhwk", placed, self.rel_pos_d[self.offsets])
        by_h = torch.einsum("ndhwc,hkc->ndhwk", placed, self.rel_pos_h[self.offsets])
        by_w = torch.einsum("ndhwc,wkc->ndhwk", placed, self.rel_pos_w[self.offsets])
        # As trained: each is added along the last key axis, the others spread over axes they are not named after.
        position = by_d[:, :, :, :, None, None] + by_h[:, :, :, None, :, None] + by_w[:, :, :, None, None]
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + position.reshape(-1, tokens, tokens)
        return scores.softmax(-1) @ v


class _Block(nn.Module):
    def __init__(self, shape: SamShape, *, window: int) -> None:
        super().__init__()
        self.window, self.grid = window, shape.grid
        self.norm1, self.norm2 = nn.LayerNorm(shape.width, eps=1e-6), nn.LayerNorm(shape.width, eps=1e-6)
        self.attn = CubeAttention(shape.width, shape.heads, window or shape.grid)
        self.mlp = Mlp(shape.width, 4 * shape.width, nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        x = x + (self._windowed(self.norm1(x)) if self.window else self.attn(self.norm1(x)))
        return x + self.mlp(self.norm2(x))

    def _windowed(self, x: Tensor) -> Tensor:
        """Attention within cubes, padded with zeros at the far sides to whole ones."""
        count, size, window = x.shape[0], self.grid, self.window
        across = math.ceil(size / window)
        missing = across * window - size
        x = F.pad(x, (0, 0, 0, missing, 0, missing, 0, missing))
        x = x.reshape(count, across, window, across, window, across, window, -1).permute(0, 1, 3, 5, 2, 4, 6, 7)
        x = self.attn(x.reshape(count * across**3, window, window, window, -1))
        x = x.reshape(count, across, across, across, window, window, window, -1).permute(0, 1, 4, 2, 5, 3, 6, 7)
        whole = across * window
        return x.reshape(count, whole, whole, whole, -1)[:, :size, :size, :size]


class VolumeEncoder(nn.Module):
    """Volume (n, 1, size, size, size) to embeddings (n, prompt_width, grid, grid, grid)."""

    def __init__(self, shape: SamShape) -> None:
        super().__init__()
        grid, width = shape.grid, shape.prompt_width
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(1, shape.width, shape.patch, shape.patch)})
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, grid, shape.width))
        self.blocks = nn.ModuleList(
            _Block(shape, window=0 if n in shape.global_blocks else shape.window) for n in range(shape.depth)
        )
        self.neck = nn.Sequential(
            nn.Conv3d(shape.width, width, 1, bias=False),
            VolumeNorm(width),
            nn.Conv3d(width, width, 3, padding=1, bias=False),
            VolumeNorm(width),
        )

    def forward(self, volume: Tensor) -> Tensor:
        x = self.patch_embed["proj"](volume).permute(0, 2, 3, 4, 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 4, 1, 2, 3))


class VolumePositions(nn.Module):
    """Places as random Fourier features: sines, cosines and the sines again."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.zeros(3, width // 3))

    def forward(self, places: Tensor) -> Tensor:
        """(…, 3) in [0, 1] to (…, width)."""
        angles = 2 * math.pi * ((2 * places - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([angles.sin(), angles.cos(), angles.sin()], -1)


class ClickEncoder(nn.Module):
    """Clicks as tokens, the mask before as a dense embedding."""

    def __init__(self, shape: SamShape) -> None:
        super().__init__()
        width, quarter = shape.prompt_width, _MASK_CHANNELS // 4
        self.shape = shape
        self.pe_layer = VolumePositions(width)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(2))
        self.not_a_point_embed = nn.Embedding(1, width)
        self.mask_downscaling = nn.Sequential(
            nn.Conv3d(1, quarter, 2, 2),
            VolumeNorm(quarter),
            nn.GELU(),
            nn.Conv3d(quarter, _MASK_CHANNELS, 2, 2),
            VolumeNorm(_MASK_CHANNELS),
            nn.GELU(),
            nn.Conv3d(_MASK_CHANNELS, width, 1),
        )
        self.no_mask_embed = nn.Embedding(1, width)

    def points(self, points: Tensor, labels: Tensor) -> Tensor:
        """(n, k, 3) in voxels and labels (n, k; 1 inside, 0 outside) to tokens (n, k + 1, width), the last no point."""
        places = self.pe_layer((points + 0.5) / self.shape.image_size)
        outside, inside = self.point_embeddings
        assert isinstance(outside, nn.Embedding) and isinstance(inside, nn.Embedding)
        kinds = torch.where(labels[..., None] > 0.5, inside.weight, outside.weight)
        nothing = self.not_a_point_embed.weight.expand(points.shape[0], 1, -1)
        return torch.cat([places + kinds, nothing], 1)

    def grid(self) -> Tensor:
        """Positions of all patches, (1, width, grid, grid, grid)."""
        size = self.shape.grid
        steps = (torch.arange(size, device=self.no_mask_embed.weight.device) + 0.5) / size
        first, second, third = torch.meshgrid(steps, steps, steps, indexing="ij")
        return self.pe_layer(torch.stack([second, first, third], -1)).permute(3, 0, 1, 2)[None]


class VolumeDecoder(nn.Module):
    """Four mask tokens are loaded; the first is the single mask that is used."""

    def __init__(self, shape: SamShape) -> None:
        super().__init__()
        width = shape.prompt_width
        flat = SamShape(prompt_width=width, decoder_heads=shape.decoder_heads, decoder_mlp=shape.decoder_mlp)
        self.transformer = TwoWayTransformer(flat)
        self.iou_token, self.mask_tokens = nn.Embedding(1, width), nn.Embedding(4, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose3d(width, width // 4, 2, 2),
            VolumeNorm(width // 4),
            nn.GELU(),
            nn.ConvTranspose3d(width // 4, width // 8, 2, 2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(Head(width, width // 8) for _ in range(4))
        self.iou_prediction_head = Head(width, 4, _IOU_HIDDEN)

    def forward(self, image: Tensor, place: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings and positions (1, c, g, g, g), tokens (1, k, c) to logits (1, 1, 4 g, 4 g, 4 g) and scores (1, 1)."""
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own[None], prompts], 1)
        flat, positions = (each.flatten(2).transpose(1, 2) for each in (image, place))
        tokens, flat = self.transformer(tokens, flat, positions)
        upscaled = self.output_upscaling(flat.transpose(1, 2).unflatten(-1, tuple(image.shape[-3:])))
        weights = self.output_hypernetworks_mlps[0](tokens[:, 1])
        logits = torch.einsum("nc,ncdhw->ndhw", weights, upscaled)[:, None]
        return logits, self.iou_prediction_head(tokens[:, 0])[:, :1]


class Sam3d(nn.Module):
    """The whole model, as a checkpoint holds it."""

    def __init__(self, shape: SamShape) -> None:
        super().__init__()
        self.shape = shape
        self.image_encoder = VolumeEncoder(shape)
        self.prompt_encoder = ClickEncoder(shape)
        self.mask_decoder = VolumeDecoder(shape)


class ClickDecoder(nn.Module):
    """Embeddings, clicks (1, k, 3), labels (1, k) and the mask before (1, 1, 4 g, 4 g, 4 g) to logits and a score."""

    def __init__(self, sam: Sam3d) -> None:
        super().__init__()
        self.prompt_encoder, self.mask_decoder = sam.prompt_encoder, sam.mask_decoder
        with torch.no_grad():
            self.register_buffer("place", sam.prompt_encoder.grid())

    def forward(self, image_embeddings: Tensor, points: Tensor, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        image = image_embeddings + self.prompt_encoder.mask_downscaling(mask)
        return self.mask_decoder(image, self.place, self.prompt_encoder.points(points, labels))
