"""LLaVA-Med v1.5: the folder ``llava-med-v1.5-mistral-7b`` to four files and a card."""

from __future__ import annotations

from pathlib import Path

from models.export.imported import Imported
from models.export.llava import convert_llava

SYSTEM = "llava-med"


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert the released folder. Raises as :func:`models.export.llava.convert_llava`."""
    return convert_llava(SYSTEM, checkpoint, folder, maximum=512)
