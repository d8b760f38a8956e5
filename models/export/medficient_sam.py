"""MedficientSAM: a checkpoint of L0, L1 or L2 to an image encoder, a box decoder and a card.

As in its own ONNX export, corners of boxes are not moved to the centres of pixels, and logits are enlarged to the network's
image within the decoder.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.export.checkpoint import load_exactly, read_checkpoint
from models.export.dual import count_blocks, require
from models.export.efficientvit_network import EfficientSam, EfficientShape
from models.export.graph_export import Exported, Recipe, export_graph
from models.export.imported import Imported, complete_card
from models.export.medsam import known_boxes, rings
from models.export.sam_network import BoxDecoder

SYSTEM = "medficientsam"
SIZE = 512
_TRAINER = "model."
"""What Lightning puts before the names of the model it trains."""
_BESIDE = (functools.partial, torch.optim.AdamW, torch.optim.lr_scheduler.CosineAnnealingLR)
"""Settings of the training that its ``best.ckpt`` keeps: which optimiser with which numbers. None of them is called."""


class CornerDecoder(nn.Module):
    """Embeddings (1, c, g, g) and boxes (n, 1, 4) in pixels to logits (n, 1, size, size) and predicted overlaps (n, 1)."""

    def __init__(self, sam: EfficientSam) -> None:
        super().__init__()
        self.decoder = BoxDecoder(sam)
        self._size = (sam.shape.image_size, sam.shape.image_size)

    def forward(self, image_embeddings: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        # BoxDecoder goes half a pixel on, to the centre; the original's export stays at the corner.
        logits, scores = self.decoder(image_embeddings, boxes - 0.5)
        return F.interpolate(logits, self._size, mode="bilinear", align_corners=False), scores


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert ``best.ckpt`` of a fine-tuned MedficientSAM. Raises CheckpointMismatch, CheckpointUnsafe, ExportFailed."""
    return convert_sized(checkpoint, folder, SIZE)


def convert_sized(checkpoint: Path, folder: Path, size: int) -> Imported:
    """Convert for images of ``size`` pixels, which does not stand in the file. Raises as :func:`convert`."""
    tensors = released(read_checkpoint(checkpoint, plain=_BESIDE))
    sam = EfficientSam(shape_of(tensors, size))
    load_exactly(sam, tensors)
    sam.eval()
    graphs = export(sam, folder)
    card = complete_card(SYSTEM, folder, graphs, replacements={"size = 512": f"size = {size}"})
    return Imported(SYSTEM, checkpoint, card, tuple(graphs.values()), len(tensors))


def released(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by the model's own names, where a training wrote them with its prefix."""
    trained = all(key.startswith(_TRAINER) for key in tensors)
    return {key.removeprefix(_TRAINER) if trained else key: value for key, value in tensors.items()}


def export(sam: EfficientSam, folder: Path) -> dict[str, Exported]:
    """Write both graphs and compare them with torch. Raises ExportFailed."""
    size, generator = sam.shape.image_size, torch.Generator().manual_seed(0)
    images = [rings(size), torch.rand(1, 3, size, size, generator=generator)]
    with torch.no_grad():
        embeddings = [sam.image_encoder(image) for image in images]
    encoder = Recipe(
        ("pixels",), ("image_embeddings",), (images[0],), [(image,) for image in images], legacy_first=True
    )
    decoder = Recipe(
        ("image_embeddings", "boxes"),
        ("masks", "iou"),
        (embeddings[0], known_boxes(3, sam.shape, generator)),
        [(embeddings[1], known_boxes(n, sam.shape, generator)) for n in (1, 2, 5)],
        {"boxes": {0: "count"}},
        legacy_first=True,
    )
    return {
        "encoder": export_graph(sam.image_encoder, encoder, folder / "encoder.onnx"),
        "decoder": export_graph(CornerDecoder(sam), decoder, folder / "decoder.onnx"),
    }


def shape_of(tensors: Mapping[str, Tensor], size: int) -> EfficientShape:
    """Sizes of the network a checkpoint is of.

    Raises
    ------
    CheckpointMismatch
        A tensor that tells a size is missing.
    """
    stages = "image_encoder.backbone.stages."
    firsts = ("op_list.0.conv", *["op_list.0.main.point_conv.conv"] * 4)
    widths = tuple(
        require(tensors, f"{stages}{n}.{each}.weight", "MedficientSAM").shape[0] for n, each in enumerate(firsts)
    )
    blocks = ("main.conv2.conv", *["main.point_conv.conv"] * 3, "context_module.main.proj.conv")
    # The first of each stage has another form only in the first stage and the last.
    depths = [
        count_blocks(tensors, f"{stages}{n}.op_list.", f".{each}.weight") - (1 if 0 < n < 4 else 0)
        for n, each in enumerate(blocks)
    ]
    return EfficientShape(
        image_size=size,
        widths=widths,
        depths=tuple(depths),
        neck=count_blocks(tensors, "image_encoder.neck.middle.op_list.", ".main.point_conv.conv.weight"),
        neck_width=require(tensors, "image_encoder.norm.weight", "MedficientSAM").shape[0],
        decoder_mlp=require(tensors, "mask_decoder.transformer.layers.0.mlp.lin1.weight", "MedficientSAM").shape[0],
    )
