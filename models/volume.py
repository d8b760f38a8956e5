"""A scalar volume with its place in the patient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Volume:
    """Voxel values and where they lie.

    Attributes
    ----------
    array_zyx : numpy.ndarray
        Shape (slices, rows, columns), float32. Slice order is that of increasing position along the slice normal
        (row direction × column direction); rows and columns are never flipped or reordered against the source images.
    affine_lps : numpy.ndarray
        4×4 float64. Maps (column i, row j, slice k, 1) to the centre of the voxel in mm, DICOM patient
        coordinates (+x left, +y posterior, +z superior; PS3.3 C.7.6.2.1.1).
    unit : str
        UCUM unit of the values, ``"1"`` for arbitrary signal, ``"um2/s"`` for ADC in 10⁻⁶ mm²/s.
    facts : dict
        What the loader knows and a model may need: ``b_value`` (s/mm²), ``field_strength_t``, ``manufacturer``,
        ``modality``, ``body_part``, ``patient_age_years``, ``contrast`` (``with`` or ``without``). Missing keys mean unknown.
    colour : numpy.ndarray or None
        Of a photograph: uint8 (3, rows, columns), red, green, blue. ``array_zyx`` then is its luminance, one slice.
    """

    array_zyx: npt.NDArray[np.float32]
    affine_lps: npt.NDArray[np.float64]
    unit: str = "1"
    facts: dict[str, Any] = field(default_factory=dict)
    colour: npt.NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        if self.array_zyx.ndim != 3:
            raise ValueError(f"a volume has three axes, not {self.array_zyx.ndim}")
        if self.affine_lps.shape != (4, 4):
            raise ValueError(f"an affine is 4x4, not {self.affine_lps.shape}")
        if self.colour is not None and self.colour.shape != (3, *self.array_zyx.shape[1:]):
            raise ValueError("colours have three planes of the size of the image")

    @property
    def spacing_mm_zyx(self) -> tuple[float, float, float]:
        """Distance between voxel centres along slice, row and column axis, in mm (gaps included)."""
        columns = np.linalg.norm(self.affine_lps[:3, :3], axis=0)
        return float(columns[2]), float(columns[1]), float(columns[0])

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in mL, slice gap included."""
        return float(abs(np.linalg.det(self.affine_lps[:3, :3]))) / 1000.0

    def same_grid(self, other: Volume, tolerance_mm: float = 0.05) -> bool:
        """Whether both volumes have the same shape and every corner voxel agrees within ``tolerance_mm``."""
        if self.array_zyx.shape != other.array_zyx.shape:
            return False
        k, j, i = (n - 1 for n in self.array_zyx.shape)
        corners = np.array([(x, y, z, 1) for x in (0, i) for y in (0, j) for z in (0, k)], dtype=float).T
        return bool(np.abs((self.affine_lps - other.affine_lps) @ corners).max() <= tolerance_mm)
