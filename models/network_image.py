"""From a slice of grey levels to the square image a promptable network was trained on."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.intensity import Intensity, to_unit_range
from models.pillow import WHOLE_LEVELS
from models.resizing import RESIZERS

_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
_IMAGENET_SPREAD = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]
_RESIZERS = {**RESIZERS, **WHOLE_LEVELS}


class ImageOptions(BaseModel):
    """From a slice to the network's image.

    ``fit``: ``stretch`` gives both sides the size, ``pad`` the longer one and fills right and bottom with zero. ``scale``:
    ``unit_range`` stretches each image to [0, 1], ``imagenet`` divides by 255 and standardises.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(ge=16, le=4096)
    resize: str
    fit: Literal["stretch", "pad"]
    intensity: Intensity
    scale: Literal["unit_range", "imagenet"]

    @field_validator("resize")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in _RESIZERS:
            raise ValueError(f"no resizer named {name}; there are {', '.join(sorted(_RESIZERS))}")
        return name

    def fitted(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Rows and columns a slice of ``shape`` takes up in the network's image."""
        if self.fit == "stretch":
            return self.size, self.size
        factor = self.size / max(shape)
        return int(shape[0] * factor + 0.5), int(shape[1] * factor + 0.5)

    def image_of(self, grey_yx: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The network's image (1, 3, size, size) of one slice of grey levels."""
        rows, columns = self.fitted(grey_yx.shape)
        resized = _RESIZERS[self.resize](grey_yx, (rows, columns)).astype(np.uint8)
        colours = np.repeat(resized[np.newaxis].astype(np.float32), 3, axis=0)
        if self.scale == "unit_range":
            colours = to_unit_range(colours)
        else:
            colours = ((colours / 255 - _IMAGENET_MEAN) / _IMAGENET_SPREAD).astype(np.float32)
        padded = np.zeros((3, self.size, self.size), np.float32)
        padded[:, :rows, :columns] = colours
        return padded[np.newaxis]
