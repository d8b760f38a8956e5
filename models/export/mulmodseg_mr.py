"""MulModSeg for MR: the same checkpoint as for CT, with the words of the other modality."""

from __future__ import annotations

from pathlib import Path

from models.export.imported import Imported
from models.export.mulmodseg import convert_for


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert ``epoch_N.pt`` for MR. Raises CheckpointMismatch, CheckpointUnsafe, ExportFailed."""
    return convert_for("MR", checkpoint, folder)
