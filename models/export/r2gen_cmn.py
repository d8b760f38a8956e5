"""R2GenCMN: the released ``.pth`` (the report generator of ChatCAD, too) to two graphs and a card, as R2Gen's."""

from __future__ import annotations

from pathlib import Path

from models.export.imported import Imported
from models.export.r2gen import convert_as

SYSTEM = "r2gen-cmn"


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert the released file. Raises CheckpointMismatch, CheckpointUnsafe, ExportFailed."""
    return convert_as(SYSTEM, checkpoint, folder)
