"""Parametric maps: the model's numbers, unscaled, where its voxels are, and what they mean."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from highdicom.pm.sop import pmread
from pydicom import dcmread
from pydicom.uid import ParametricMapStorage

from dicom_sr.check import check
from dicom_sr.errors import ObjectInvalid, SourceUnusable
from dicom_sr.rendering import RenderedObject
from models.results import StudyResult
from tests.generators.results import nothing_found
from tests.unit.dicom_sr_objects.cases import Case
from tests.unit.dicom_sr_objects.pixel_cases import values_in_order, with_pixels

_TO_XYZ = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)


def maps(case: Case, result: StudyResult) -> list[RenderedObject]:
    objects = case.rendered(result, objects=("parametric_map",))
    check(objects, case.study, result, case.source)
    return objects


@pytest.mark.parametrize("kind", ["case", "enhanced"])
def test_highdicom_reads_the_same_numbers_at_the_same_places(kind: str, request: pytest.FixtureRequest) -> None:
    case: Case = request.getfixturevalue(kind)
    result = with_pixels(case)
    assert result.segmentation is not None
    probability, saliency = maps(case, result)
    for rendered, expected in (
        (probability, result.segmentation.probability_zyx),
        (saliency, result.heat_maps[0].values_zyx),
    ):
        assert expected is not None
        volume = pmread(BytesIO(rendered.encoded)).get_volume(apply_real_world_transform=True, dtype=np.float64)
        theirs = values_in_order(np.squeeze(volume.array), volume.affine @ _TO_XYZ)
        ours = values_in_order(expected.astype(float), case.source.volume.affine_lps)
        assert np.array_equal(theirs, ours)


def test_quantities_units_and_ranges_are_stated(case: Case) -> None:
    result = with_pixels(case)
    made = [dcmread(BytesIO(rendered.encoded)) for rendered in maps(case, result)]
    stated = []
    for dataset in made:
        assert (dataset.SOPClassUID, dataset.Modality) == (ParametricMapStorage, "OT")
        mapping = dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
        quantity = mapping.QuantityDefinitionSequence[0]
        assert quantity.ConceptNameCodeSequence[0].CodeMeaning == "Quantity"
        stated.append((quantity.ConceptCodeSequence[0].CodeMeaning, mapping.MeasurementUnitsCodeSequence[0].CodeValue))
    assert stated == [("Probability", "1"), ("Saliency", "1")]
    window = made[0].SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
    assert (float(window.WindowCenter), float(window.WindowWidth)) == (0.5, 1.0)
    assert len({str(dataset.SeriesInstanceUID) for dataset in made}) == 1


def test_a_map_goes_where_nothing_was_found(case: Case) -> None:
    result = replace(nothing_found(), heat_maps=with_pixels(case).heat_maps)
    assert [rendered.role for rendered in maps(case, result)] == ["parametric_map-1"]


def test_no_map_without_numbers(case: Case) -> None:
    objects = case.rendered(objects=("parametric_map", "measurements"))
    assert [rendered.role for rendered in objects] == ["seg", "measurements"]


def test_another_grid_and_infinite_values_are_refused(case: Case) -> None:
    result = with_pixels(case)
    (heat_map,) = result.heat_maps
    with pytest.raises(SourceUnusable):
        maps(case, replace(result, heat_maps=(replace(heat_map, values_zyx=heat_map.values_zyx[1:]),)))
    infinite = heat_map.values_zyx.copy()
    infinite[2, 3, 4] = np.inf
    with pytest.raises(ObjectInvalid):
        maps(case, replace(result, heat_maps=(replace(heat_map, values_zyx=infinite),)))
