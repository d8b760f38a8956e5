"""MedSAM: a released checkpoint to an image encoder, a box decoder and a card.

The decoder is exported here because the public ONNX files of it take points only, which MedSAM was not trained on. The
encoder attends over the whole image one head at a time: 2.6 GB instead of 6.9 GB at full size, for the same result.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError
from torch import Tensor, nn

from models.errors import CheckpointMismatch
from models.export.checkpoint import load_exactly, read_checkpoint
from models.export.graph_export import Exported, Recipe, export_graph
from models.export.imported import Imported, complete_card
from models.export.sam_layout import shape_of
from models.export.sam_network import BoxDecoder, BoxPrompted, Sam, SamShape

SYSTEM = "medsam"
_POINTS = frozenset({"input_points", "point_coords"})


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert a checkpoint of the released layout.

    Parameters
    ----------
    checkpoint : Path
        ``medsam_vit_b.pth``, one of the training script's (``model`` with the prefix ``module.``), or the same keys as
        safetensors. Sizes are taken from the tensors, so that smaller checkpoints of the layout convert, too.
    folder : Path
        Existing folder; gets ``encoder.onnx``, ``decoder.onnx`` and ``model.toml``.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe
        The file is none of these.
    ExportFailed
        A graph does not equal the network.
    """
    refuse_points_only(checkpoint)
    tensors = read_checkpoint(checkpoint)
    shape = shape_of(tensors, "rel_pos_h", "Segment Anything with a ViT encoder")
    sam = Sam(shape, lean=True)
    load_exactly(sam, tensors)
    sam.eval()
    graphs = export(sam, folder)
    card = complete_card(SYSTEM, folder, graphs, replacements={"size = 1024": f"size = {shape.image_size}"})
    return Imported(SYSTEM, checkpoint, card, tuple(graphs.values()), len(tensors))


def refuse_points_only(checkpoint: Path) -> None:
    """Refuse public ONNX exports by name: their decoder takes points, which MedSAM was not trained on.

    Raises
    ------
    CheckpointMismatch
        The file, or one in the folder, is such a decoder; or it is another ONNX file.
    """
    found = checkpoint.rglob("*.onnx") if checkpoint.is_dir() else [checkpoint]
    files = sorted(each for each in found if each.suffix == ".onnx")
    for file in files:
        try:
            inputs = {each.name for each in onnx.load(str(file), load_external_data=False).graph.input}
        except (OSError, DecodeError) as error:
            raise CheckpointMismatch(f"{file.name} cannot be read: {error}") from error
        if _POINTS & inputs and "boxes" not in inputs:
            raise CheckpointMismatch(
                f"{file.name} is a public export whose decoder takes points only; MedSAM was trained on boxes, and gives "
                "worse masks for points without saying so: convert medsam_vit_b.pth instead"
            )
    if files:
        raise CheckpointMismatch(f"{files[0].name} is a graph, not weights: convert medsam_vit_b.pth instead")


def export(sam: Sam, folder: Path) -> dict[str, Exported]:
    """Write encoder and decoder into ``folder`` and compare both with torch.

    Raises
    ------
    ExportFailed
    """
    return export_boxes(sam.image_encoder, sam, sam.shape, folder)


def export_boxes(image_encoder: nn.Module, sam: BoxPrompted, shape: SamShape, folder: Path) -> dict[str, Exported]:
    """Write an image encoder and the box decoder of a model, and compare both with torch. Raises as :func:`export`."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 3, shape.image_size, shape.image_size, generator=generator)
    images = [rings(shape.image_size), noise]
    with torch.no_grad():
        embeddings = [image_encoder(image) for image in images]
    encoder = Recipe(("pixels",), ("image_embeddings",), (images[0],), [(image,) for image in images])
    decoder = Recipe(
        ("image_embeddings", "boxes"),
        ("masks", "iou"),
        (embeddings[0], known_boxes(3, shape, generator)),
        [(embeddings[1], known_boxes(n, shape, generator)) for n in (1, 2, 5)],
        {"boxes": {0: "count"}},
    )
    return {
        "encoder": export_graph(image_encoder, encoder, folder / "encoder.onnx"),
        "decoder": export_graph(BoxDecoder(sam), decoder, folder / "decoder.onnx"),
    }


def rings(size: int) -> Tensor:
    """An image (1, 3, size, size) in [0, 1] that packs well: it is kept as the known answer's input."""
    steps = torch.linspace(-4, 4, size)
    rings = (steps[:, None].square() + steps[None, :].square()).round() % 4 / 3
    return rings.expand(1, 3, size, size).contiguous()


def known_boxes(count: int, shape: SamShape, generator: torch.Generator) -> Tensor:
    corners = torch.rand(count, 2, 2, generator=generator).sort(dim=1).values
    return (corners * (shape.image_size - 1)).reshape(count, 1, 4)
