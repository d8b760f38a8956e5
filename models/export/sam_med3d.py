"""SAM-Med3D: a released checkpoint to a volume encoder, a decoder of clicks and a card."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from models.errors import CheckpointMismatch
from models.export.checkpoint import load_exactly, read_checkpoint
from models.export.graph_export import Exported, Recipe, export_graph
from models.export.imported import Imported, complete_card
from models.export.sam3d_network import ClickDecoder, Sam3d, Sam3dShape

SYSTEM = "sam-med3d"
_DECODER_HEADS = 8


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert ``sam_med3d_turbo.pth`` or any checkpoint of its layout.

    Parameters
    ----------
    checkpoint : Path
        A state dict, alone or below ``model_state_dict``, or safetensors. Sizes are taken from the tensors.
    folder : Path
        Existing folder; gets ``encoder.onnx``, ``decoder.onnx`` and ``model.toml``.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    tensors = read_checkpoint(checkpoint)
    shape = shape_of(tensors)
    sam = Sam3d(shape)
    load_exactly(sam, tensors)
    sam.eval()
    graphs = export(sam, folder)
    card = complete_card(SYSTEM, folder, graphs, replacements={"size = 128": f"size = {shape.image_size}"})
    return Imported(SYSTEM, checkpoint, card, tuple(graphs.values()), len(tensors))


def shape_of(tensors: Mapping[str, Tensor]) -> Sam3dShape:
    """Sizes of the network a checkpoint is of.

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
            if (match := re.fullmatch(r"image_encoder\.blocks\.(\d+)\.attn\.rel_pos_d", key))
        }
        head = tensors["image_encoder.blocks.0.attn.rel_pos_d"].shape[1]
        mlp = tensors["mask_decoder.transformer.layers.0.mlp.lin1.weight"]
    except (KeyError, IndexError) as error:
        raise CheckpointMismatch(f"not a checkpoint of SAM-Med3D: no {error}") from error
    windows = {side for side in sides.values() if side != grid}
    if len(windows) > 1 or sorted(sides) != list(range(len(sides))):
        raise CheckpointMismatch("the encoder's blocks are not numbered from 0, or their windows differ in size")
    return Sam3dShape(
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


def export(sam: Sam3d, folder: Path) -> dict[str, Exported]:
    """Write encoder and decoder into ``folder`` and compare both with torch. Raises ExportFailed."""
    shape = sam.shape
    size, low = shape.image_size, 4 * shape.grid
    generator = torch.Generator().manual_seed(0)
    steps = torch.linspace(-2, 2, size)
    shells = (steps[:, None, None].square() + steps[None, :, None].square() + steps.square()).round() % 3 - 1
    volumes = [shells[None, None].contiguous(), torch.randn(1, 1, size, size, size, generator=generator)]
    with torch.no_grad():
        embeddings = [sam.image_encoder(volume) for volume in volumes]

    def clicks(count: int) -> tuple[Tensor, Tensor, Tensor]:
        points = torch.rand(1, count, 3, generator=generator) * (size - 1)
        labels = (torch.arange(count) % 2 == 0).to(torch.float32)[None]
        return points, labels, torch.randn(1, 1, low, low, low, generator=generator)

    encoder = Recipe(("volume",), ("image_embeddings",), (volumes[0],), [(volume,) for volume in volumes])
    decoder = Recipe(
        ("image_embeddings", "points", "labels", "mask"),
        ("masks", "iou"),
        (embeddings[0], *clicks(3)),
        [(embeddings[1], *clicks(n)) for n in (1, 4)],
        {"points": {1: "count"}, "labels": {1: "count"}},
    )
    return {
        "encoder": export_graph(sam.image_encoder, encoder, folder / "encoder.onnx"),
        "decoder": export_graph(ClickDecoder(sam), decoder, folder / "decoder.onnx"),
    }
