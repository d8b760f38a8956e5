"""Rows `model.*`: the embedded model alone, in a process of its own."""

from __future__ import annotations

from tests.bench.figures import Row, row
from tests.bench.stage import Stage, in_child


def infarct(stage: Stage) -> list[Row]:
    """CPU time and peak memory of the default model by image size."""
    rows = []
    for shape in stage.size.shapes_zyx:
        measured = in_child("infer", stage.size.repeats, *shape)
        name = "model.infarct_" + "x".join(map(str, shape))
        how = f"warm session, one thread, {stage.size.repeats} runs"
        rows.append(row(f"{name}.cpu", measured["cpu"], "s", how=f"CPU time, {how}"))
        rows.append(
            row(
                f"{name}.rss",
                [measured["peak_rss_mib"]],
                "MiB",
                how=f"peak of the whole process during the runs, {how}",
            )
        )
    return rows
