"""BiomedCLIP: ViT-B/16 of timm and PubMedBERT in open_clip's layout, to an image graph and vectors of the card's phrases.

The folder is that of ``microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224``: ``open_clip_pytorch_model.bin``,
``vocab.txt`` and ``tokenizer_config.json``, with the ``config.json`` of PubMedBERT beside them.
"""

from __future__ import annotations

from pathlib import Path

from models.export.imported import Imported
from models.export.open_clip import convert_as

SYSTEM = "biomedclip"
CONTEXT = 256


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert the released folder. Raises CheckpointMismatch, CheckpointUnsafe, ExportFailed."""
    return convert_as(SYSTEM, checkpoint, folder, gelu="exact", context=CONTEXT, size=224)
