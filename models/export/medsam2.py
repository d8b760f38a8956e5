"""MedSAM2: a released checkpoint to a frame encoder, a box decoder and a card; slices are followed, no memory is kept.

The checkpoint also holds what a video's memory needs. It is named (:data:`models.export.sam2_network.MEMORY`) and left out:
each slice is a frame that is prompted, with the box of the mask on the slice before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from models.errors import CheckpointMismatch
from models.export.checkpoint import read_checkpoint
from models.export.graph_export import Exported, Recipe, export_graph
from models.export.imported import Imported, complete_card
from models.export.medsam import known_boxes, rings
from models.export.sam2_network import MEMORY, NAMES, FrameDecoder, FrameEncoder, Sam2, Sam2Shape

SYSTEM = "medsam2"
SIZE = 512
_TRUNK = "image_encoder.trunk."


def convert(checkpoint: Path, folder: Path, *, shape: Sam2Shape | None = None) -> Imported:
    """Convert ``MedSAM2_latest.pt`` or another checkpoint of its layout.

    Parameters
    ----------
    checkpoint : Path
        The file: a state dict below ``model``.
    folder : Path
        Existing folder; gets ``encoder.onnx``, ``decoder.onnx`` and ``model.toml``.
    shape : Sam2Shape, optional
        Of another size than the released one; windows and global blocks do not stand in the file.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    tensors = read_checkpoint(checkpoint)
    used = {key: value for key, value in tensors.items() if not key.startswith(MEMORY)}
    shape = shape or released(used)
    sam = Sam2(shape)
    NAMES.load(sam, used)
    sam.eval()
    graphs = export(sam, folder)
    card = complete_card(SYSTEM, folder, graphs, replacements={f"size = {SIZE}": f"size = {shape.image_size}"})
    return Imported(SYSTEM, checkpoint, card, tuple(graphs.values()), len(used))


def released(tensors: Mapping[str, Tensor]) -> Sam2Shape:
    """The released size, if the tensors have it.

    Raises
    ------
    CheckpointMismatch
        They are of another network.
    """
    blocks = {int(match[1]) for key in tensors if (match := re.match(rf"{re.escape(_TRUNK)}blocks\.(\d+)\.", key))}
    first = tensors.get(f"{_TRUNK}patch_embed.proj.weight")
    shape = Sam2Shape()
    if first is None or first.shape[0] != shape.width or len(blocks) != sum(shape.stages):
        raise CheckpointMismatch("not a checkpoint of MedSAM2 (SAM 2.1, Hiera tiny)")
    return shape


def export(sam: Sam2, folder: Path) -> dict[str, Exported]:
    """Write encoder and decoder into ``folder`` and compare both with torch. Raises ExportFailed."""
    shape = sam.shape.prompts
    generator = torch.Generator().manual_seed(0)
    images = [rings(shape.image_size), torch.randn(1, 3, shape.image_size, shape.image_size, generator=generator)]
    encoder, decoder = FrameEncoder(sam).eval(), FrameDecoder(sam).eval()
    with torch.no_grad():
        seen = [encoder(image) for image in images]
    maps = ("image_embeddings", "finer", "finest")
    frames = Recipe(("pixels",), maps, (images[0],), [(image,) for image in images])
    boxes = Recipe(
        (*maps, "boxes"),
        ("masks", "iou"),
        (*seen[0], known_boxes(3, shape, generator)),
        [(*seen[1], known_boxes(n, shape, generator)) for n in (1, 2, 5)],
        {"boxes": {0: "count"}},
    )
    return {
        "encoder": export_graph(encoder, frames, folder / "encoder.onnx"),
        "decoder": export_graph(decoder, boxes, folder / "decoder.onnx"),
    }
