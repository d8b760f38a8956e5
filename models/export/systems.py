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
    "ag-kd": "models.export.ag_kd",
    "bimedix2": "models.export.bimedix2",
    "biovil-t": "models.export.biovil_t",
    "fleming-vl": "models.export.fleming_vl",
    "lingshu": "models.export.lingshu",
    "llava-med": "models.export.llava_med",
    "med-r1": "models.export.med_r1",
    "medgemma": "models.export.medgemma",
    "medsam": "models.export.medsam",
    "torchxrayvision": "models.export.torchxrayvision",
    "vision-encoder-decoder": "models.export.vision_encoder_decoder",
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
