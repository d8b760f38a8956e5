"""The inputs of a study as one stack on the grid of the first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.errors import InferenceFailed
from models.registration import NotComparable, resampled, rigid_transform
from models.volume import Volume

_COVERED = 0.95
"""Share of the first image's grid another one must cover."""


def stacked(
    inputs: Mapping[str, Volume], roles: tuple[str, ...], how: Literal["refuse", "resample", "rigid", "rigid_elsewhere"]
) -> npt.NDArray[np.float32]:
    """Arrays (channels, z, y, x) of ``roles`` on the grid of the first.

    Raises
    ------
    InferenceFailed
        One is missing, holds NaN, lies elsewhere, or cannot be brought into agreement.
    """
    for role in roles:
        if role not in inputs:
            raise InferenceFailed(f"the input {role} is missing")
        # A hole filled with zeros would read as "nothing found" there.
        if not np.isfinite(inputs[role].array_zyx).all():
            raise InferenceFailed(f"the input {role} holds NaN or infinity")
    fixed = inputs[roles[0]]
    return np.stack([_brought(inputs[role], fixed, role, how) for role in roles])


def _brought(volume: Volume, fixed: Volume, role: str, how: str) -> npt.NDArray[np.float32]:
    if volume is fixed or (volume.same_grid(fixed) and how != "rigid"):
        return volume.array_zyx.astype(np.float32)
    if how == "refuse":
        raise InferenceFailed(f"the input {role} lies on another grid than the first one")
    transform = np.eye(4)
    if how in ("rigid", "rigid_elsewhere"):
        try:
            transform = rigid_transform(fixed, volume, same_contrast=False)
        except NotComparable as error:
            raise InferenceFailed(f"the input {role} cannot be brought into agreement: {error}") from error
    inside = Volume(np.ones(volume.array_zyx.shape, np.float32), volume.affine_lps)
    covered = float((resampled(inside, fixed, transform) > 0).mean())
    if covered < _COVERED:
        raise InferenceFailed(f"the input {role} covers only {100 * covered:.0f} % of the first one")
    return resampled(volume, fixed, transform)
