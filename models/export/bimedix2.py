"""BiMediX2 8B: LLaVA's layout around Llama 3.1 to graphs and a card."""

from __future__ import annotations

from pathlib import Path

from models.export.imported import Imported
from models.export.llava import convert_llava

SYSTEM = "bimedix2"


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert the released folder. Raises as :func:`models.export.llava.convert_llava`."""
    return convert_llava(SYSTEM, checkpoint, folder, maximum=1024, stops=("<|eot_id|>",))
