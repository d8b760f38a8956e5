"""Sizes of a network of Segment Anything, read from the shapes of its published tensors: of squares and of cubes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from models.errors import CheckpointMismatch
from models.export.sam_network import SamShape

# Of every published one; no tensor tells.
_DECODER_HEADS = 8


def shape_of(tensors: Mapping[str, Tensor], positions: str, system: str) -> SamShape:
    """Sizes of the network a checkpoint is of.

    Parameters
    ----------
    positions : str
        Name of the relative positions along the first axis: ``rel_pos_h``, or ``rel_pos_d`` of volumes.
    system : str
        What it should be a checkpoint of, for the message.

    Raises
    ------
    CheckpointMismatch
        A tensor that tells a size is missing.
    """
    try:
        patches = tensors["image_encoder.patch_embed.proj.weight"]
        grid = tensors["image_encoder.pos_embed"].shape[1]
        sides = {
            int(match[1]): (value.shape[0] + 1) // 2
            for key, value in tensors.items()
            if (match := re.fullmatch(rf"image_encoder\.blocks\.(\d+)\.attn\.{positions}", key))
        }
        head = tensors[f"image_encoder.blocks.0.attn.{positions}"].shape[1]
        mlp = tensors["mask_decoder.transformer.layers.0.mlp.lin1.weight"]
    except (KeyError, IndexError) as error:
        raise CheckpointMismatch(f"not a checkpoint of {system}: no {error}") from error
    windows = {side for side in sides.values() if side != grid}
    if len(windows) > 1 or sorted(sides) != list(range(len(sides))):
        raise CheckpointMismatch("the encoder's blocks are not numbered from 0, or their windows differ in size")
    return SamShape(
        image_size=grid * patches.shape[-1],
        patch=patches.shape[-1],
        width=patches.shape[0],
        depth=len(sides),
        heads=patches.shape[0] // head,
        window=windows.pop() if windows else grid,
        global_blocks=tuple(sorted(n for n, side in sides.items() if side == grid)),
        prompt_width=mlp.shape[1],
        decoder_heads=_DECODER_HEADS,
        decoder_mlp=mlp.shape[0],
    )
