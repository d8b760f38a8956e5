"""AG-KD and K2Sight (0.23 B): abnormality grounding on chest radiographs, Florence-2-base fine-tuned."""

from __future__ import annotations

from pathlib import Path

from models.export.florence import convert_florence
from models.export.imported import Imported

SYSTEM = "ag-kd"


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert the merged released folder. Raises as :func:`models.export.florence.convert_florence`."""
    return convert_florence(SYSTEM, checkpoint, folder, inner=512, size=768)
