"""SAM-Med3D: a released checkpoint to a volume encoder, a decoder of clicks and a card."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from models.export.checkpoint import load_exactly, read_checkpoint
from models.export.graph_export import Exported, Recipe, export_graph
from models.export.imported import Imported, complete_card
from models.export.sam3d_network import ClickDecoder, Sam3d
from models.export.sam_layout import shape_of

SYSTEM = "sam-med3d"


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
    shape = shape_of(tensors, "rel_pos_d", "SAM-Med3D")
    sam = Sam3d(shape)
    load_exactly(sam, tensors)
    sam.eval()
    graphs = export(sam, folder)
    card = complete_card(SYSTEM, folder, graphs, replacements={"size = 128": f"size = {shape.image_size}"})
    return Imported(SYSTEM, checkpoint, card, tuple(graphs.values()), len(tensors))


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
