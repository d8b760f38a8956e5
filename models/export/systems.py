"""Systems whose released checkpoints can be converted. Importing this module does not import torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import ModelNotFound

if TYPE_CHECKING:
    from models.export.imported import Imported

SYSTEMS: dict[str, str] = {
    "biomedclip": "models.export.biomedclip",
    "biovil-t": "models.export.biovil_t",
    "flair": "models.export.flair",
    "knobo": "models.export.knobo",
    "lite-medsam": "models.export.lite_medsam",
    "medclip": "models.export.medclip",
    "medsam": "models.export.medsam",
    "medsam2": "models.export.medsam2",
    "medsiglip": "models.export.medsiglip",
    "merlin": "models.export.merlin",
    "sam-med3d": "models.export.sam_med3d",
    "torchxrayvision": "models.export.torchxrayvision",
    "unimed-clip": "models.export.unimed_clip",
}
"""System → module with ``convert(checkpoint, folder)``."""


def converter_of(system: str) -> Callable[[Path, Path], Imported]:
    """The converter of a system.

    Raises
    ------
    ModelNotFound
        There is none.
    """
    if system not in SYSTEMS:
        raise ModelNotFound(f"no converter for {system}; there are {', '.join(sorted(SYSTEMS))}")
    return importlib.import_module(SYSTEMS[system]).convert
