"""Segment Anything, ViT image encoder with box prompts, as torch modules.

Written for export: fixed image size, one mask for each box, no points, no mask prompts. Parameter names and shapes are
those of the released checkpoints (``segment_anything`` as in bowang-lab/MedSAM, ``segment_anything/modeling``), so that a
state dict loads as it is. Architecture: Kirillov et al. 2023 (arXiv 2304.02643), section 3 and appendix A; attention with
decomposed relative positions after Li et al. 2022 (arXiv 2112.01526).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["BoxDecoder", "BoxPrompted", "ImageEncoder", "Sam", "SamShape"]


@dataclass(frozen=True, slots=True)
class SamShape:
    """Sizes of a SAM; the defaults are ViT-B, which is MedSAM.

    Attributes
    ----------
    image_size : int
        Pixels along each side of the square input.
    patch : int
        Pixels along each side of a patch.
    width, depth, heads : int
        Of the image encoder.
    window : int
        Patches along each side of an attention window.
    global_blocks : tuple of int
        Blocks that attend over the whole image.
    prompt_width : int
        Channels of embeddings and prompts.
    decoder_heads, decoder_mlp : int
        Of the mask decoder.
    """

    image_size: int = 1024
    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    window: int = 14
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    prompt_width: int = 256
    decoder_heads: int = 8
    decoder_mlp: int = 2048

    @property
    def grid(self) -> int:
        """Patches along each side."""
        return self.image_size // self.patch


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of (n, c, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        scaled = centred * torch.rsqrt(centred.square().mean(1, keepdim=True) + 1e-6)
        return scaled * self.weight[:, None, None] + self.bias[:, None, None]


class Mlp(nn.Module):
    """Two linear layers; GELU in the encoder, ReLU in the decoder."""

    def __init__(self, width: int, hidden: int, activation: nn.Module) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.activation(self.lin1(x)))


class RelativeAttention(nn.Module):
    """Attention over a square of patches, with positions relative along rows and along columns.

    ``lean`` computes the heads one after the other: a twelfth of the score matrices at a time, which for a whole image of
    64 × 64 patches is 64 MiB instead of 805 MB and more.
    """

    offsets: Tensor

    def __init__(self, width: int, heads: int, side: int, *, lean: bool) -> None:
        super().__init__()
        self.heads, self.side, self.lean = heads, side, lean
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, width // heads))
        steps = torch.arange(side)
        self.register_buffer("offsets", steps[:, None] - steps[None, :] + side - 1, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(windows, side, side, width) to the same."""
        windows, side, tokens = x.shape[0], self.side, self.side * self.side
        q, k, v = self.qkv(x).reshape(windows, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if self.lean:
            parts = [self._attend(q[:, n : n + 1], k[:, n : n + 1], v[:, n : n + 1]) for n in range(self.heads)]
            attended = torch.cat(parts, 1)
        else:
            attended = self._attend(q, k, v)
        return self.proj(attended.transpose(1, 2).reshape(windows, side, side, -1))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        windows, heads, tokens, size = q.shape
        side = self.side
        placed = q.reshape(windows, heads, side, side, size)
        rows = torch.einsum("nhyxc,yrc->nhyxr", placed, self.rel_pos_h[self.offsets])
        columns = torch.einsum("nhyxc,xsc->nhyxs", placed, self.rel_pos_w[self.offsets])
        position = (rows[..., :, None] + columns[..., None, :]).reshape(windows, heads, tokens, tokens)
        scores = (q * size**-0.5) @ k.transpose(-2, -1) + position
        return scores.softmax(-1) @ v


class EncoderBlock(nn.Module):
    """Attention, whole or by windows, and an MLP, both residual."""

    def __init__(self, shape: SamShape, *, window: int, lean: bool) -> None:
        super().__init__()
        self.window, self.grid = window, shape.grid
        self.norm1 = nn.LayerNorm(shape.width, eps=1e-6)
        self.attn = RelativeAttention(shape.width, shape.heads, window or shape.grid, lean=lean and not window)
        self.norm2 = nn.LayerNorm(shape.width, eps=1e-6)
        self.mlp = Mlp(shape.width, 4 * shape.width, nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        x = x + (self._windowed(self.norm1(x)) if self.window else self.attn(self.norm1(x)))
        return x + self.mlp(self.norm2(x))

    def _windowed(self, x: Tensor) -> Tensor:
        """Attention within windows; the image is padded with zeros on the right and at the bottom to whole windows."""
        images, size, window = x.shape[0], self.grid, self.window
        across = math.ceil(size / window)
        missing = across * window - size
        padded = F.pad(x, (0, 0, 0, missing, 0, missing))
        tiles = padded.reshape(images, across, window, across, window, -1).transpose(2, 3)
        attended = self.attn(tiles.reshape(images * across * across, window, window, -1))
        whole = attended.reshape(images, across, across, window, window, -1).transpose(2, 3)
        return whole.reshape(images, across * window, across * window, -1)[:, :size, :size]


class _Patches(nn.Module):
    def __init__(self, shape: SamShape) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, shape.width, shape.patch, shape.patch)


class ImageEncoder(nn.Module):
    """Pixels (n, 3, size, size) to embeddings (n, prompt_width, size / patch, size / patch)."""

    def __init__(self, shape: SamShape, *, lean: bool) -> None:
        super().__init__()
        self.patch_embed = _Patches(shape)
        self.pos_embed = nn.Parameter(torch.zeros(1, shape.grid, shape.grid, shape.width))
        self.blocks = nn.ModuleList(
            EncoderBlock(shape, window=0 if n in shape.global_blocks else shape.window, lean=lean)
            for n in range(shape.depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(shape.width, shape.prompt_width, 1, bias=False),
            ChannelNorm(shape.prompt_width),
            nn.Conv2d(shape.prompt_width, shape.prompt_width, 3, padding=1, bias=False),
            ChannelNorm(shape.prompt_width),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_embed.proj(pixels).permute(0, 2, 3, 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 3, 1, 2))


class FourierPositions(nn.Module):
    """Places as random Fourier features (Tancik et al. 2020)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.zeros(2, width // 2))

    def forward(self, places: Tensor) -> Tensor:
        """(…, 2) as (x, y) in [0, 1] to (…, width)."""
        angles = 2 * math.pi * ((2 * places - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([angles.sin(), angles.cos()], -1)


class PromptEncoder(nn.Module):
    """Boxes as pairs of tokens. Points and mask prompts are loaded with the checkpoint and not used."""

    def __init__(self, shape: SamShape) -> None:
        super().__init__()
        width, quarter = shape.prompt_width, 4
        self.shape = shape
        self.pe_layer = FourierPositions(width)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, width)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, quarter, 2, 2),
            ChannelNorm(quarter),
            nn.GELU(),
            nn.Conv2d(quarter, 16, 2, 2),
            ChannelNorm(16),
            nn.GELU(),
            nn.Conv2d(16, width, 1),
        )
        self.no_mask_embed = nn.Embedding(1, width)

    @property
    def corner_embeddings(self) -> tuple[nn.Embedding, nn.Embedding]:
        """Of the first and of the second corner of a box."""
        first, second = self.point_embeddings[2], self.point_embeddings[3]
        assert isinstance(first, nn.Embedding)
        assert isinstance(second, nn.Embedding)
        return first, second

    def boxes(self, boxes: Tensor) -> Tensor:
        """(n, 4) as x0, y0, x1, y1 in pixels of the network's image to tokens (n, 2, width)."""
        # Half a pixel to its centre, as the released code does.
        corners = (boxes.reshape(-1, 2, 2) + 0.5) / self.shape.image_size
        kinds = torch.cat([embedding.weight for embedding in self.corner_embeddings])
        return self.pe_layer(corners) + kinds

    def grid(self) -> Tensor:
        """Positions of all patches, (1, width, grid, grid)."""
        size = self.shape.grid
        steps = (torch.arange(size, device=self.no_mask_embed.weight.device) + 0.5) / size
        places = torch.stack([steps[None, :].expand(size, size), steps[:, None].expand(size, size)], -1)
        return self.pe_layer(places).permute(2, 0, 1)[None]


class CrossAttention(nn.Module):
    """Multi-head attention in ``inner`` channels."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, inner) for _ in range(3))
        self.out_proj = nn.Linear(inner, width)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (self._split(x) for x in (self.q_proj(q), self.k_proj(k), self.v_proj(v)))
        weights = ((q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5).softmax(-1)
        return self.out_proj((weights @ v).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class TwoWayBlock(nn.Module):
    """Tokens attend to themselves and to the image, then the image to the tokens."""

    def __init__(self, shape: SamShape, *, first: bool) -> None:
        super().__init__()
        width, heads = shape.prompt_width, shape.decoder_heads
        self.first = first
        self.self_attn = CrossAttention(width, width, heads)
        self.cross_attn_token_to_image = CrossAttention(width, width // 2, heads)
        self.cross_attn_image_to_token = CrossAttention(width, width // 2, heads)
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(width) for _ in range(4))
        self.mlp = Mlp(width, shape.decoder_mlp, nn.ReLU())

    def forward(self, tokens: Tensor, image: Tensor, token_place: Tensor, image_place: Tensor) -> tuple[Tensor, Tensor]:
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + token_place
            tokens = tokens + self.self_attn(placed, placed, tokens)
        tokens = self.norm1(tokens)
        tokens = tokens + self.cross_attn_token_to_image(tokens + token_place, image + image_place, image)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = image + self.cross_attn_image_to_token(image + image_place, tokens + token_place, tokens)
        return tokens, self.norm4(image)


class TwoWayTransformer(nn.Module):
    def __init__(self, shape: SamShape) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(shape, first=n == 0) for n in range(2))
        self.final_attn_token_to_image = CrossAttention(
            shape.prompt_width, shape.prompt_width // 2, shape.decoder_heads
        )
        self.norm_final_attn = nn.LayerNorm(shape.prompt_width)

    def forward(self, tokens: Tensor, image: Tensor, image_place: Tensor) -> tuple[Tensor, Tensor]:
        place = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, place, image_place)
        tokens = tokens + self.final_attn_token_to_image(tokens + place, image + image_place, image)
        return self.norm_final_attn(tokens), image


class Head(nn.Module):
    """Three linear layers with ReLU between them."""

    def __init__(self, width: int, output: int, hidden: int = 0) -> None:
        super().__init__()
        inner = hidden or width
        self.layers = nn.ModuleList([nn.Linear(width, inner), nn.Linear(inner, inner), nn.Linear(inner, output)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class MaskDecoder(nn.Module):
    """Four mask tokens are loaded; the first is the single mask MedSAM was trained with."""

    def __init__(self, shape: SamShape) -> None:
        super().__init__()
        width = shape.prompt_width
        self.transformer = TwoWayTransformer(shape)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(4, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, 2, 2),
            ChannelNorm(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, width // 8, 2, 2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(Head(width, width // 8) for _ in range(4))
        self.iou_prediction_head = Head(width, 4)

    def forward(self, image: Tensor, place: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings and positions (1, c, h, w), prompt tokens (n, k, c) to logits (n, 1, 4 h, 4 w) and scores (n, 1)."""
        boxes, (rows, columns) = prompts.shape[0], image.shape[-2:]
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own.expand(boxes, -1, -1), prompts], 1)
        flat = image.flatten(2).transpose(1, 2).expand(boxes, -1, -1)
        tokens, flat = self.transformer(tokens, flat, place.flatten(2).transpose(1, 2))
        upscaled = self.output_upscaling(flat.transpose(1, 2).unflatten(-1, (rows, columns)))
        weights = self.output_hypernetworks_mlps[0](tokens[:, 1])
        logits = torch.einsum("nc,nchw->nhw", weights, upscaled)[:, None]
        return logits, self.iou_prediction_head(tokens[:, 0])[:, :1]


class Sam(nn.Module):
    """The whole model, as a checkpoint holds it."""

    def __init__(self, shape: SamShape, *, lean: bool = False) -> None:
        super().__init__()
        self.shape = shape
        self.image_encoder = ImageEncoder(shape, lean=lean)
        self.prompt_encoder = PromptEncoder(shape)
        self.mask_decoder = MaskDecoder(shape)


class BoxPrompted(Protocol):
    """A model with SAM's prompt encoder and mask decoder, whatever its image encoder is."""

    prompt_encoder: PromptEncoder
    mask_decoder: MaskDecoder


class BoxDecoder(nn.Module):
    """Embeddings (1, c, g, g) and boxes (n, 1, 4) to mask logits (n, 1, 4 g, 4 g) and predicted overlaps (n, 1)."""

    def __init__(self, sam: BoxPrompted) -> None:
        super().__init__()
        self.prompt_encoder, self.mask_decoder = sam.prompt_encoder, sam.mask_decoder
        with torch.no_grad():
            self.register_buffer("place", sam.prompt_encoder.grid())

    def forward(self, image_embeddings: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        image = image_embeddings + self.prompt_encoder.no_mask_embed.weight[:, :, None, None]
        return self.mask_decoder(image, self.place, self.prompt_encoder.boxes(boxes[:, 0]))
