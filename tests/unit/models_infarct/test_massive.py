"""Infarcts too large for their own good: they must not become the yardstick, nor pass for normal anatomy."""

from __future__ import annotations

import numpy as np
import pytest

from models.errors import ReferenceDoubtful
from models.model import Model
from models.phantom import LesionSpec, Phantom, make_phantom
from models.results import Laterality, Outcome
from tests.unit.models_infarct.agreement import dice, marked, run
from tests.unit.models_infarct.territories import with_infarct


@pytest.fixture(scope="module")
def healthy() -> Phantom:
    return make_phantom(3, lesions=[], t2_shine_through=False)


SIDES = {
    "left MCA": Laterality.LEFT,
    "right MCA": Laterality.RIGHT,
    "left hemisphere": Laterality.LEFT,
    "right hemisphere": Laterality.RIGHT,
    "left cerebellum": Laterality.LEFT,
    "posterior fossa": Laterality.BILATERAL,
    "both PCA": Laterality.BILATERAL,
    "both ACA": Laterality.BILATERAL,
}


@pytest.mark.parametrize("territory", list(SIDES))
def test_a_whole_territory_is_found_on_its_side(territory: str, healthy: Phantom, baseline: Model) -> None:
    phantom = with_infarct(healthy, territory, adc_fall_um2_s=330.0)
    result = run(baseline, phantom)
    assert result.segmentation is not None
    assert dice(marked(result, phantom) > 0, phantom.truth_zyx > 0) >= 0.8
    assert result.segmentation.regions[0].laterality is SIDES[territory]


FAINT = [
    *((territory, fall) for territory in (*SIDES, "whole brain") for fall in (120.0, 230.0)),
    # At 120 um2/s less in both middle cerebral territories the brain is that of a scanner with another scale: see the card.
    ("both MCA", 230.0),
]


@pytest.mark.parametrize(("territory", "fall"), FAINT)
def test_a_faint_one_is_never_called_clean(territory: str, fall: float, healthy: Phantom, baseline: Model) -> None:
    phantom = with_infarct(healthy, territory, adc_fall_um2_s=fall)
    try:
        result = run(baseline, phantom)
    except ReferenceDoubtful as doubt:
        assert doubt.code == "SUI-005"
    else:
        assert result.outcome is Outcome.FOUND


def test_what_diffuse_restriction_lets_found_is_reported_with_a_doubt(healthy: Phantom, baseline: Model) -> None:
    result = run(baseline, with_infarct(healthy, "left hemisphere", adc_fall_um2_s=330.0))
    assert "reference_doubtful" in result.limitations
    assert abs(result.evidence["adc_left_to_right"] - 1) > 0.05


def test_an_infarct_opposite_a_larger_one_is_no_symmetric_tract(baseline: Model) -> None:
    phantom = make_phantom(2012, noise=0.08)
    result = run(baseline, phantom)
    mask = marked(result, phantom) > 0
    assert all((mask & (phantom.truth_zyx == n)).any() for n in (1, 2))
    assert {"left", "right"} == {r.laterality.value for r in result.segmentation.regions}


@pytest.mark.parametrize("orientation", ["axial", "coronal"])
def test_the_mid_sagittal_plane_stays_sagittal(orientation: str, baseline: Model) -> None:
    phantom = make_phantom(4, orientation=orientation, lesions=[LesionSpec(0.0)], t2_shine_through=False)
    result = run(baseline, with_infarct(phantom, "right MCA", adc_fall_um2_s=400.0))
    normal = np.array(result.evidence["midplane_lps"][:3])
    assert normal[0] > np.cos(np.radians(22))
