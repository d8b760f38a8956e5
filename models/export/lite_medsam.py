"""LiteMedSAM: ``lite_medsam.pth`` to an image encoder, a box decoder and a card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from models.errors import CheckpointMismatch
from models.export.checkpoint import load_exactly, read_checkpoint
from models.export.dual import count_blocks
from models.export.graph_export import Exported
from models.export.imported import Imported, complete_card
from models.export.medsam import export_boxes
from models.export.tinyvit_network import LiteSam, TinyVitShape

SYSTEM = "lite-medsam"
SIZE = 256


def convert(checkpoint: Path, folder: Path, *, size: int = SIZE) -> Imported:
    """Convert a checkpoint of the released layout.

    Parameters
    ----------
    checkpoint : Path
        ``lite_medsam.pth``, or the same keys as safetensors.
    folder : Path
        Existing folder; gets ``encoder.onnx``, ``decoder.onnx`` and ``model.toml``.
    size : int
        Pixels along each side; it does not stand in the file.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    tensors = read_checkpoint(checkpoint)
    sam = LiteSam(shape_of(tensors, size))
    load_exactly(sam, tensors)
    sam.eval()
    graphs = export(sam, folder)
    card = complete_card(SYSTEM, folder, graphs, replacements={"size = 256": f"size = {size}"})
    return Imported(SYSTEM, checkpoint, card, tuple(graphs.values()), len(tensors))


def export(sam: LiteSam, folder: Path) -> dict[str, Exported]:
    """Write both graphs and compare them with torch. Raises ExportFailed."""
    return export_boxes(sam.image_encoder, sam, sam.shape, folder)


def shape_of(tensors: Mapping[str, Tensor], size: int) -> TinyVitShape:
    """Sizes of the network a checkpoint is of.

    Raises
    ------
    CheckpointMismatch
        A tensor that tells a size is missing.
    """
    layers = "image_encoder.layers."
    try:
        first = tensors["image_encoder.patch_embed.seq.2.c.weight"].shape[0]
        biases = [tensors[f"{layers}{n}.blocks.0.attn.attention_biases"] for n in (1, 2, 3)]
        widths = [tensors[f"{layers}{n}.blocks.0.attn.proj.weight"].shape[0] for n in (1, 2, 3)]
        prompt_width = tensors["image_encoder.neck.0.weight"].shape[0]
        mlp = tensors["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0]
    except KeyError as error:
        raise CheckpointMismatch(f"not a checkpoint of LiteMedSAM: no {error}") from error
    endings = ("conv1.c.weight", *(["attn.qkv.weight"] * 3))
    return TinyVitShape(
        image_size=size,
        widths=(first, *widths),
        depths=tuple(count_blocks(tensors, f"{layers}{n}.blocks.", ending) for n, ending in enumerate(endings)),
        heads=(1, *(each.shape[0] for each in biases)),
        windows=(1, *(round(each.shape[1] ** 0.5) for each in biases)),
        prompt_width=prompt_width,
        decoder_mlp=mlp,
    )


def real_size() -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the released checkpoint, by meta tensors."""
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in LiteSam(TinyVitShape()).state_dict().items()}
