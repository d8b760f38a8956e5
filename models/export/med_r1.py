"""Med-R1: Qwen2-VL 2B to graphs and a card; one folder for each modality or task was released."""

from __future__ import annotations

from pathlib import Path

from models.export.imported import Imported
from models.export.qwen_vl import convert_qwen

SYSTEM = "med-r1"
GRIDS = ((28, 28),)
"""The system was trained on squares of 384 pixels, which Qwen2-VL rounds to 392."""


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert the released folder. Raises as :func:`models.export.qwen_vl.convert_qwen`."""
    return convert_qwen(SYSTEM, checkpoint, folder, maximum=256, grids=GRIDS)
