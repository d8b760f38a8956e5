"""Rows `model.medsam_*`: MedSAM at its real size, random weights, beside torch on the same processor."""

from __future__ import annotations

from functools import partial

from tests.bench.figures import Row, Target, row
from tests.bench.stage import Stage, in_child

_LEAN_MIB = 2.7 * 1024


def medsam(stage: Stage) -> list[Row]:
    """CPU time and memory of the image encoder and of the box decoder, each run in a process of its own."""
    folder = stage.folder(stage.scratch)
    size = stage.size.medsam_pixels
    exported = in_child("export_medsam", size, folder)
    ours = in_child("run_medsam", "onnx", size, folder)
    theirs = in_child("run_medsam", "torch", size, folder)
    parity = f"relative difference from torch {exported['difference']:.1e}"
    how = f"{size}x{size} pixels, ViT-B, random weights, one thread, second of two runs"
    make = partial(row, peer="torch, same weights, heads at once")
    return [
        make(
            "model.medsam_encoder.cpu",
            [ours["encoder"]],
            "s",
            peers=[theirs["encoder"]],
            target=Target("ratio", 1.0),
            how=f"CPU time of one image, head by head; {how}; {parity}",
        ),
        row(
            "model.medsam_encoder.rss",
            [ours["peak_rss_mib"]],
            "MiB",
            target=Target("figure", _LEAN_MIB),
            how=f"peak of the whole process, head by head; {how}",
        ),
        make(
            "model.medsam_decoder.cpu",
            [ours["decoder"]],
            "s",
            peers=[theirs["decoder"]],
            target=Target("ratio", 1.0),
            how=f"CPU time of five boxes on one image; {how}",
        ),
    ]
