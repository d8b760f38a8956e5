"""SAM 2.1 with a Hiera image encoder and box prompts, without its memory, as torch modules for export.

Ravi et al. 2024 (arXiv 2408.00714), Ryali et al. 2023 (arXiv 2306.00989). One image is one frame that is prompted: what the
memory would add is its "no memory" vector. Names of parameters are mapped by :data:`NAMES`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.renaming import Renaming
from models.export.sam_network import ChannelNorm, Head, PromptEncoder, SamShape, TwoWayTransformer

NAMES = Renaming(
    (
        (r"(.*\.mlp)\.lin1\.(weight|bias)", r"\1.layers.0.\2"),
        (r"(.*\.mlp)\.lin2\.(weight|bias)", r"\1.layers.1.\2"),
        (r"(.*)", r"\1"),
    )
)
"""Ours to the published names: a multilayer perceptron is a list of layers there."""
MEMORY = (
    "memory_attention.",
    "memory_encoder.",
    "maskmem_tpos_enc",
    "no_mem_pos_enc",
    "no_obj_ptr",
    "no_obj_embed_spatial",
    "obj_ptr_proj.",
    "obj_ptr_tpos_proj.",
    "mask_downsample.",
)
"""How keys of a checkpoint begin that only a video's memory needs."""
_STABLE_MARGIN, _STABLE = 0.05, 0.98


@dataclass(frozen=True, slots=True)
class Sam2Shape:
    """Sizes; the defaults are ``sam2.1_hiera_tiny512``, which MedSAM2 is."""

    image_size: int = 512
    width: int = 96
    heads: int = 1
    stages: tuple[int, ...] = (1, 2, 7, 2)
    windows: tuple[int, ...] = (8, 4, 14, 7)
    global_blocks: tuple[int, ...] = (5, 7, 9)
    places: int = 7
    prompt_width: int = 256
    decoder_mlp: int = 2048

    @property
    def prompts(self) -> SamShape:
        """Of the prompt encoder and the mask decoder."""
        return SamShape(self.image_size, 16, prompt_width=self.prompt_width, decoder_mlp=self.decoder_mlp)


class _Perceptron(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lin1, self.lin2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(F.gelu(self.lin1(x)))


def _halved(x: Tensor) -> Tensor:
    """Largest of each square of four, (n, h, w, c)."""
    return F.max_pool2d(x.permute(0, 3, 1, 2), 2, 2).permute(0, 2, 3, 1)


class _PooledAttention(nn.Module):
    def __init__(self, inward: int, outward: int, heads: int, *, pooled: bool) -> None:
        super().__init__()
        self.heads, self.pooled = heads, pooled
        self.qkv, self.proj = nn.Linear(inward, 3 * outward), nn.Linear(outward, outward)

    def forward(self, x: Tensor) -> Tensor:
        """(n, h, w, inward) to (n, h, w, outward), or half as many rows and columns."""
        q, k, v = self.qkv(x).chunk(3, -1)
        if self.pooled:
            q = _halved(q)
        rows, columns = q.shape[1:3]
        q, k, v = (each.flatten(1, 2).unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (q, k, v))
        weights = ((q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2).unflatten(1, (rows, columns)))


class _Block(nn.Module):
    def __init__(self, inward: int, outward: int, heads: int, window: int, *, pooled: bool) -> None:
        super().__init__()
        self.window, self.pooled = window, pooled
        self.norm1, self.norm2 = nn.LayerNorm(inward, eps=1e-6), nn.LayerNorm(outward, eps=1e-6)
        self.attn = _PooledAttention(inward, outward, heads, pooled=pooled)
        self.mlp = _Perceptron(outward, 4 * outward)
        self.proj = nn.Linear(inward, outward) if inward != outward else None

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        shortcut = x
        if self.proj is not None:
            shortcut = self.proj(normed)
            shortcut = _halved(shortcut) if self.pooled else shortcut
        x = shortcut + (self._windowed(normed) if self.window else self.attn(normed))
        return x + self.mlp(self.norm2(x))

    def _windowed(self, x: Tensor) -> Tensor:
        rows, columns, window = x.shape[1], x.shape[2], self.window
        down, across = -(-rows // window), -(-columns // window)
        x = F.pad(x, (0, 0, 0, across * window - columns, 0, down * window - rows))
        tiles = x.unflatten(2, (across, window)).unflatten(1, (down, window)).transpose(2, 3).flatten(0, 2)
        tiles = self.attn(tiles)
        side = tiles.shape[1]
        whole = tiles.unflatten(0, (-1, down, across)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        shrunk = window // side
        return whole[:, : rows // shrunk, : columns // shrunk]


class Hiera(nn.Module):
    """Pixels (n, 3, size, size) to the features of each stage (n, c, h, w), the finest first."""

    def __init__(self, shape: Sam2Shape) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, shape.width, 7, 4, 3)})
        self.pos_embed = nn.Parameter(torch.zeros(1, shape.width, shape.places, shape.places))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, shape.width, shape.windows[0], shape.windows[0]))
        self.ends = [sum(shape.stages[: n + 1]) - 1 for n in range(len(shape.stages))]
        self._side = shape.image_size // 4
        width, heads, stage = shape.width, shape.heads, 0
        blocks = []
        for number in range(sum(shape.stages)):
            # The first block of a stage still has the window of the one before.
            window = 0 if number in shape.global_blocks else shape.windows[stage]
            enters = number - 1 in self.ends
            outward = 2 * width if enters else width
            heads = 2 * heads if enters else heads
            stage += int(enters)
            blocks.append(_Block(width, outward, heads, window, pooled=enters))
            width = outward
        self.blocks = nn.ModuleList(blocks)

    def places(self) -> Tensor:
        """Positions of all patches, (1, side, side, width)."""
        side, window = self._side, self.pos_embed_window
        wide = F.interpolate(self.pos_embed, size=(side, side), mode="bicubic")
        times = side // window.shape[-1]
        return (wide + window.tile(1, 1, times, times)).permute(0, 2, 3, 1)

    def forward(self, pixels: Tensor, places: Tensor) -> list[Tensor]:
        x = self.patch_embed["proj"](pixels).permute(0, 2, 3, 1) + places
        found = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self.ends:
                found.append(x.permute(0, 3, 1, 2))
        return found


class _Neck(nn.Module):
    def __init__(self, shape: Sam2Shape) -> None:
        super().__init__()
        widths = [shape.width << n for n in reversed(range(len(shape.stages)))]
        self.convs = nn.ModuleList(nn.ModuleDict({"conv": nn.Conv2d(w, shape.prompt_width, 1)}) for w in widths)

    def forward(self, stages: list[Tensor]) -> list[Tensor]:
        """Of the three finer stages; the third also has what the coarsest says."""
        lateral = []
        for conv, x in zip(self.convs, reversed(stages), strict=True):
            assert isinstance(conv, nn.ModuleDict)
            lateral.append(conv["conv"](x))
        coarsest, third, second, first = lateral
        return [first, second, third + F.interpolate(coarsest, scale_factor=2.0, mode="nearest")]


class Sam2MaskDecoder(nn.Module):
    """Four mask tokens; the first counts unless its edge is uncertain, then the best of the others."""

    def __init__(self, shape: Sam2Shape) -> None:
        super().__init__()
        width = shape.prompt_width
        self.transformer = TwoWayTransformer(shape.prompts)
        self.iou_token, self.mask_tokens = nn.Embedding(1, width), nn.Embedding(4, width)
        self.obj_score_token = nn.Embedding(1, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, 2, 2),
            ChannelNorm(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, width // 8, 2, 2),
            nn.GELU(),
        )
        self.conv_s0, self.conv_s1 = nn.Conv2d(width, width // 8, 1), nn.Conv2d(width, width // 4, 1)
        self.output_hypernetworks_mlps = nn.ModuleList(Head(width, width // 8) for _ in range(4))
        self.iou_prediction_head = Head(width, 4)
        self.pred_obj_score_head = Head(width, 1)

    def forward(
        self, image: Tensor, finer: Tensor, finest: Tensor, place: Tensor, prompts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Embeddings (1, c, g, g), (1, c / 4, 2 g, 2 g), (1, c / 8, 4 g, 4 g), tokens (n, k, c) to masks and scores."""
        count, (rows, columns) = prompts.shape[0], image.shape[-2:]
        own = torch.cat([self.obj_score_token.weight, self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own.expand(count, -1, -1), prompts], 1)
        flat = image.flatten(2).transpose(1, 2).expand(count, -1, -1)
        tokens, flat = self.transformer(tokens, flat, place.flatten(2).transpose(1, 2))
        first, norm, act, second, last = self.output_upscaling
        upscaled = act(norm(first(flat.transpose(1, 2).unflatten(-1, (rows, columns))) + finer))
        upscaled = last(second(upscaled) + finest)
        weights = torch.stack([head(tokens[:, 2 + n]) for n, head in enumerate(self.output_hypernetworks_mlps)], 1)
        masks = torch.einsum("nkc,nchw->nkhw", weights, upscaled)
        return self._chosen(masks, self.iou_prediction_head(tokens[:, 1]).sigmoid())

    @staticmethod
    def _chosen(masks: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        single, others = masks[:, :1], masks[:, 1:]
        inner = (single > _STABLE_MARGIN).flatten(1).sum(1).to(torch.float32)
        outer = (single > -_STABLE_MARGIN).flatten(1).sum(1).to(torch.float32)
        stable = torch.where(outer > 0, inner / outer.clamp(min=1.0), torch.ones_like(inner)) >= _STABLE
        best = F.one_hot(scores[:, 1:].argmax(-1), 3).to(masks.dtype)
        second = (others * best[:, :, None, None]).sum(1, keepdim=True)
        second_score = (scores[:, 1:] * best).sum(1, keepdim=True)
        return (
            torch.where(stable[:, None, None, None], single, second),
            torch.where(stable[:, None], scores[:, :1], second_score),
        )


class Sam2(nn.Module):
    """What a checkpoint holds, but for the memory."""

    def __init__(self, shape: Sam2Shape) -> None:
        super().__init__()
        self.shape = shape
        self.image_encoder = nn.ModuleDict({"trunk": Hiera(shape), "neck": _Neck(shape)})
        self.sam_prompt_encoder = PromptEncoder(shape.prompts)
        self.sam_mask_decoder = Sam2MaskDecoder(shape)
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, shape.prompt_width))


class FrameEncoder(nn.Module):
    """Pixels (n, 3, size, size) to embeddings and the two finer maps the decoder looks at."""

    def __init__(self, sam: Sam2) -> None:
        super().__init__()
        trunk = sam.image_encoder["trunk"]
        assert isinstance(trunk, Hiera)
        self.trunk, self.neck, self.decoder = trunk, sam.image_encoder["neck"], sam.sam_mask_decoder
        self.no_mem_embed = sam.no_mem_embed
        with torch.no_grad():
            self.register_buffer("places", trunk.places())

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        finest, finer, coarse = self.neck(self.trunk(pixels, self.places))
        coarse = coarse + self.no_mem_embed.transpose(1, 2)[..., None]
        return coarse, self.decoder.conv_s1(finer), self.decoder.conv_s0(finest)


class FrameDecoder(nn.Module):
    """What the encoder gives and boxes (n, 1, 4) to mask logits (n, 1, 4 g, 4 g) and predicted overlaps (n, 1)."""

    def __init__(self, sam: Sam2) -> None:
        super().__init__()
        self.prompts, self.decoder = sam.sam_prompt_encoder, sam.sam_mask_decoder
        with torch.no_grad():
            self.register_buffer("place", sam.sam_prompt_encoder.grid())

    def forward(self, image_embeddings: Tensor, finer: Tensor, finest: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        image = image_embeddings + self.prompts.no_mask_embed.weight[:, :, None, None]
        corners = self.prompts.boxes(boxes[:, 0])
        # A box counts as two points there, and behind points comes one that is none.
        nothing = self.prompts.not_a_point_embed.weight.expand(corners.shape[0], 1, -1)
        return self.decoder(image, finer, finest, self.place, torch.cat([corners, nothing], 1))
