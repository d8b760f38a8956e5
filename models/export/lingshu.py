"""Lingshu 7B: Qwen2.5-VL to graphs and a card."""

from __future__ import annotations

from pathlib import Path

from models.export.imported import Imported
from models.export.qwen_vl import convert_qwen

SYSTEM = "lingshu"
GRIDS = ((36, 36), (44, 30), (30, 44))
"""Square, upright and lying: about 1,300 patches, 330 tokens."""


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert the released folder. Raises as :func:`models.export.qwen_vl.convert_qwen`."""
    return convert_qwen(SYSTEM, checkpoint, folder, maximum=1024, grids=GRIDS)
