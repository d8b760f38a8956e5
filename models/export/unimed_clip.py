"""UniMed-CLIP: open_clip's own ViT-B/16 or L/14 with the quick GELU, and BiomedBERT with a projection of two layers.

The released file is one ``.pt`` of the training script; beside it lie ``config.json`` and ``vocab.txt`` of BiomedBERT. What
the text tower is called is told from the file.
"""

from __future__ import annotations

from pathlib import Path

from models.export.imported import Imported
from models.export.open_clip import convert_as

SYSTEM = "unimed-clip"
CONTEXT = 256


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert the released file. Raises CheckpointMismatch, CheckpointUnsafe, ExportFailed."""
    return convert_as(SYSTEM, checkpoint, folder, gelu="quick", context=CONTEXT, size=224)
