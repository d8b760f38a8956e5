"""The phantom: repeatable, physically consistent, and the same head on every grid."""

from __future__ import annotations

import numpy as np
import pytest

from models.phantom import ADC_CSF, LesionSpec, Plane, make_phantom, plane_directions

SMALL = {"shape_zyx": (16, 64, 64), "spacing_mm_zyx": (8.5, 3.6, 3.6)}


def test_same_seed_same_arrays_other_seed_other_arrays() -> None:
    first, again, other = (make_phantom(seed, **SMALL) for seed in (3, 3, 4))
    for name in ("b0", "dwi", "adc"):
        assert np.array_equal(getattr(first, name).array_zyx, getattr(again, name).array_zyx)
        assert not np.array_equal(getattr(first, name).array_zyx, getattr(other, name).array_zyx)
    assert np.array_equal(first.truth_zyx, again.truth_zyx)


def test_adc_map_follows_from_the_signals() -> None:
    phantom = make_phantom(1, b_value=800.0, **SMALL)
    inside = phantom.brain_zyx & (phantom.adc.array_zyx > 0) & (phantom.adc.array_zyx < 4000)
    expected = np.log(phantom.b0.array_zyx[inside] / phantom.dwi.array_zyx[inside]) / 800.0 * 1e6
    assert np.allclose(phantom.adc.array_zyx[inside], expected, rtol=1e-3)
    assert phantom.dwi.facts["b_value"] == 800.0
    assert phantom.adc.unit == "um2/s"


def test_compartments_have_their_diffusion() -> None:
    phantom = make_phantom(2, noise=0.01, lesions=[LesionSpec(20.0, "right", 500.0)])
    adc = phantom.adc.array_zyx
    lesion = phantom.truth_zyx == 1
    tissue = phantom.brain_zyx & ~lesion & (phantom.distractor_zyx == 0) & (adc < 1100)
    assert 440 < np.median(adc[lesion]) < 580
    assert 700 < np.median(adc[tissue]) < 860
    assert np.percentile(adc[phantom.brain_zyx], 99.5) == pytest.approx(ADC_CSF, rel=0.1)
    shine = phantom.distractor_zyx == 1
    assert np.median(phantom.dwi.array_zyx[shine]) > 1.3 * np.median(phantom.dwi.array_zyx[tissue])
    assert np.median(adc[shine]) > 900


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("volume_ml", [0.5, 5.0, 40.0])
def test_lesion_has_its_volume_and_side(side: str, volume_ml: float) -> None:
    phantom = make_phantom(7, lesions=[LesionSpec(volume_ml, side)])
    where = np.argwhere(phantom.truth_zyx == 1)
    assert len(where) * phantom.dwi.voxel_ml == pytest.approx(volume_ml, rel=0.15, abs=phantom.dwi.voxel_ml)
    x = (where[:, ::-1] @ phantom.dwi.affine_lps[:3, :3].T + phantom.dwi.affine_lps[:3, 3])[:, 0]
    assert (x > 0).all() if side == "left" else (x < 0).all()


def test_planes_show_the_same_head() -> None:
    lesion = LesionSpec(25.0, centre_mm=(35.0, 10.0, 15.0))
    grid = {"shape_zyx": (40, 90, 90), "spacing_mm_zyx": (4.6, 2.2, 2.2)}
    centres = []
    for plane in Plane:
        phantom = make_phantom(5, orientation=plane, lesions=[lesion], **grid)
        where = np.argwhere(phantom.truth_zyx == 1)
        centres.append((where[:, ::-1] @ phantom.dwi.affine_lps[:3, :3].T + phantom.dwi.affine_lps[:3, 3]).mean(axis=0))
    assert np.ptp(np.stack(centres), axis=0).max() < 6


@pytest.mark.parametrize("plane", list(Plane))
@pytest.mark.parametrize("flipped", [False, True])
def test_slice_direction_is_row_times_column(plane: Plane, flipped: bool) -> None:
    directions = plane_directions(plane, flipped=flipped)
    assert np.allclose(np.cross(directions[:, 0], directions[:, 1]), directions[:, 2])
    assert np.allclose(directions.T @ directions, np.eye(3))


def test_skull_stripped_background_is_exactly_zero() -> None:
    phantom = make_phantom(1, skull_stripped=True, **SMALL)
    assert not phantom.dwi.array_zyx[~phantom.brain_zyx].any()
    assert not phantom.adc.array_zyx[~phantom.brain_zyx].any()


def test_healthy_head_has_no_truth() -> None:
    assert not make_phantom(1, lesions=[], **SMALL).truth_zyx.any()
