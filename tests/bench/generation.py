"""Rows `model.generation_tokens`: a report generator of real size beside transformers on the same processor."""

from __future__ import annotations

from tests.bench.figures import Row, Target, row
from tests.bench.stage import BenchmarkFailed, Stage, in_child

_FASTER = 1 / 1.5


def tokens(stage: Stage) -> list[Row]:
    """CPU time a token, greedy and with four beams, one study at a time."""
    folder = stage.folder(stage.scratch)
    whole = stage.size.medsam_pixels >= 1024
    size = "real" if whole else "small"
    made = in_child("export_report_generator", size, folder)
    ours = in_child("write_report", "onnx", size, folder)
    theirs = in_child("write_report", "torch", size, folder)
    if ours["texts"] != theirs["texts"]:
        raise BenchmarkFailed("the two did not write the same tokens")
    how = (
        f"ViT and BERT of {made['millions']:.0f} million weights, random, {made['tokens']} tokens, batch 1, one thread, "
        "image encoder not counted, second of two runs; same tokens"
    )
    return [
        row(
            f"model.generation_tokens.{name}",
            [1000 * ours[name]],
            "ms/token",
            peer="transformers generate",
            peers=[1000 * theirs[name]],
            target=Target("ratio", round(_FASTER, 3)),
            how=f"{how}; {1 / ours[name]:.1f} tokens a second of CPU time against {1 / theirs[name]:.1f}",
        )
        for name in ("greedy", "beams")
    ]
