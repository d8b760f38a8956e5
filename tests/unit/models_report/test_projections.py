"""Views in the patient's axes, whatever way the slices lie."""

from __future__ import annotations

import numpy as np
import pytest

from models.phantom import LesionSpec, make_phantom
from models.projections import orthogonal_projections

SIDES = {"left": 1, "right": -1}


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal", "oblique"])
@pytest.mark.parametrize("side", list(SIDES))
def test_left_is_left_in_any_plane(plane: str, side: str, flipped: bool) -> None:
    phantom = make_phantom(
        4,
        shape_zyx=(30, 64, 64),
        spacing_mm_zyx=(7.0, 3.6, 3.6),
        lesions=[LesionSpec(20.0, side)],
        orientation=plane,
        flipped=flipped,
    )
    inputs = {"dwi": phantom.dwi, "adc": phantom.adc}
    views = orthogonal_projections(inputs, phantom.truth_zyx, channels=("mask", "dwi"), size=32)
    assert views.shape == (3, 2, 32, 32)
    for view in (views[0, 0], views[1, 0]):  # looking along z and along y: columns are x, increasing to the left
        offset = (view.sum(axis=0) * np.arange(32)).sum() / view.sum() - 15.5
        assert offset * SIDES[side] > 2


def test_a_single_lesion_voxel_survives_the_shrinking() -> None:
    phantom = make_phantom(4, shape_zyx=(20, 64, 64), spacing_mm_zyx=(7.5, 3.6, 3.6), lesions=[])
    mask = np.zeros(phantom.dwi.array_zyx.shape, dtype=np.uint8)
    mask[10, 30, 40] = 1
    views = orthogonal_projections({"dwi": phantom.dwi}, mask, channels=("mask",), size=32)
    assert (views.reshape(3, -1).max(axis=1) == 1).all()


def test_an_unknown_channel_is_refused() -> None:
    phantom = make_phantom(4, shape_zyx=(8, 32, 32), spacing_mm_zyx=(18.0, 7.0, 7.0), lesions=[])
    with pytest.raises(ValueError, match="'flair'"):
        orthogonal_projections({"dwi": phantom.dwi}, None, channels=("flair",), size=16)
