"""Presentation states: what is drawn, where, and how the images below are shown."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_sr.annotations import LONGEST
from dicom_sr.check import check
from dicom_sr.errors import ObjectInvalid, OverlayMismatch
from dicom_sr.series import Kind, LoadedStudy
from models.results import HeatMap, StudyResult
from tests.generators.results import found, marked
from tests.unit.dicom_sr_objects.cases import Case, projection_case
from tests.unit.dicom_sr_objects.pixel_cases import ONE, SALIENCY


def states_of(case: Case, result: StudyResult | None = None) -> list[Dataset]:
    rendered = case.rendered(result, objects=("presentation",))
    check(rendered, case.study, result or case.result, case.source)
    return [dcmread(BytesIO(r.encoded)) for r in rendered]


def with_headers(case: Case, changed: Sequence[Dataset]) -> Case:
    by_uid = {str(header.SOPInstanceUID): header for header in changed}
    study = replace(case.study, headers=tuple(changed))
    object.__setattr__(study, "_by_uid", by_uid)
    return replace(
        case, study=study, source=replace(case.source, header=by_uid[str(case.source.header.SOPInstanceUID)])
    )


def copies(study: LoadedStudy) -> list[Dataset]:
    return [deepcopy(header) for header in study.headers]


def test_each_region_has_its_layer_and_colour(case: Case) -> None:
    (state,) = states_of(case, case.complete)
    layers = {
        entry.GraphicLayer: list(entry.GraphicLayerRecommendedDisplayCIELabValue)
        for entry in state.GraphicLayerSequence
    }
    assert [*layers] == ["AI_1", "AI_2", "AI_MARKS"]
    assert len({tuple(colour) for colour in layers.values()}) == 3


def test_key_slice_states_the_volume_and_every_label_that_nobody_reviewed_it(case: Case) -> None:
    assert case.result.segmentation is not None
    (state,) = states_of(case)
    texts = {
        (a.ReferencedImageSequence[0].ReferencedSOPInstanceUID, a.GraphicLayer): a.TextObjectSequence[
            0
        ].UnformattedTextValue
        for a in state.GraphicAnnotationSequence
    }
    assert all(text.startswith("AI: ") and text.endswith("(not reviewed)") for text in texts.values())
    for region in case.result.segmentation.regions:
        frame = case.source.frames[region.key_slice]
        assert f"{region.volume_ml:.1f} mL" in texts[frame.sop_instance_uid, f"AI_{region.number}"]


def test_only_annotated_images_are_referred_to(case: Case) -> None:
    assert case.result.segmentation is not None
    (state,) = states_of(case)
    (series,) = state.ReferencedSeriesSequence
    occupied = np.flatnonzero(case.result.segmentation.mask_zyx.any(axis=(1, 2)))
    expected = {case.source.frames[k].sop_instance_uid for k in occupied}
    assert {r.ReferencedSOPInstanceUID for r in series.ReferencedImageSequence} == expected
    assert len(expected) < len(case.source.frames)


def test_frames_of_an_enhanced_image_are_named(enhanced: Case) -> None:
    (state,) = states_of(enhanced, enhanced.complete)
    (image,) = state.ReferencedSeriesSequence[0].ReferencedImageSequence
    drawn = {int(a.ReferencedImageSequence[0].ReferencedFrameNumber) for a in state.GraphicAnnotationSequence}
    assert {int(n) for n in image.ReferencedFrameNumber} == drawn


def test_holes_and_corners_survive(case: Case) -> None:
    mask = np.zeros(case.source.volume.array_zyx.shape, np.uint8)
    mask[3, 5:20, 5:20] = 1
    mask[3, 8:12, 8:12] = 0
    mask[3, 12, 12] = 0
    mask[3, 20, 20] = 1
    mask[4, 0, 0] = mask[4, -1, -1] = 1
    (state,) = states_of(case, found(mask, case.source.volume.voxel_ml))
    assert max(len(a.GraphicObjectSequence) for a in state.GraphicAnnotationSequence) >= 3


def test_an_outline_too_long_for_one_element_is_drawn_in_pieces(case: Case) -> None:
    rows = columns = 160
    comb = np.zeros((1, rows, columns), np.uint8)
    comb[0, 0] = 1
    comb[0, :, ::4] = 1
    comb[0, 2::2, 1::4] = 1
    frame = case.source.frames[0]
    header = next(h for h in copies(case.study) if str(h.SOPInstanceUID) == frame.sop_instance_uid)
    header.Rows, header.Columns = rows, columns
    volume = replace(case.source.volume, array_zyx=np.zeros(comb.shape, np.float32))
    source = replace(case.source, volume=volume, frames=(frame,), header=header)
    small = with_headers(replace(case, source=source), [header])
    (state,) = states_of(small, found(comb, 0.1))
    sizes = [g.NumberOfGraphicPoints for a in state.GraphicAnnotationSequence for g in a.GraphicObjectSequence]
    assert max(sizes) == LONGEST
    assert len(sizes) == 2


def test_images_that_are_rescaled_differently_get_a_state_each(case: Case) -> None:
    headers = copies(case.study)
    assert case.result.segmentation is not None
    occupied = np.flatnonzero(case.result.segmentation.mask_zyx.any(axis=(1, 2)))
    odd = case.source.frames[occupied[0]].sop_instance_uid
    for header in headers:
        header.RescaleSlope, header.RescaleIntercept = ("2" if header.SOPInstanceUID == odd else "1"), "-5"
    first, second = states_of(with_headers(case, headers))
    assert {str(state.RescaleSlope) for state in (first, second)} == {"1", "2"}
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert (first.InstanceNumber, second.InstanceNumber) == (1, 2)


def test_different_windows_name_their_images(case: Case) -> None:
    headers = copies(case.study)
    for n, header in enumerate(headers):
        header.WindowCenter, header.WindowWidth = str(100 + n), "80"
    (state,) = states_of(with_headers(case, headers))
    annotated = state.ReferencedSeriesSequence[0].ReferencedImageSequence
    assert len(state.SoftcopyVOILUTSequence) == len(annotated) > 1
    assert all(len(entry.ReferencedImageSequence) == 1 for entry in state.SoftcopyVOILUTSequence)


def test_an_inverted_radiograph_stays_as_it_is(shared_data: Path) -> None:
    case = projection_case(shared_data / "cxr_dicom" / "RG1_J2KI.dcm")
    assert case.source.header.PhotometricInterpretation == "MONOCHROME1"
    (state,) = states_of(case)
    assert state.PresentationLUTShape == "INVERSE"
    area = state.DisplayedAreaSelectionSequence[0]
    assert area.DisplayedAreaBottomRightHandCorner == [case.source.header.Columns, case.source.header.Rows]
    assert area.PresentationPixelAspectRatio == [1, 1]  # its Pixel Spacing is zero


@pytest.mark.parametrize("languages", [("en",), ("ja",)])
def test_a_mark_without_label_is_numbered(languages: tuple[str, ...], case: Case) -> None:
    result = marked(case.source.volume.array_zyx.shape, languages=languages)
    (state,) = states_of(case, result)
    texts = [t.UnformattedTextValue for a in state.GraphicAnnotationSequence for t in a.TextObjectSequence]
    assert "AI: Mark 3 (not reviewed)" in texts
    assert "AI: Nodule 1, probability 0.83 (not reviewed)" in texts


def spotted(case: Case, *spots: tuple[int, int, int]) -> StudyResult:
    """A result with a map for each spot, as a model that answers phrases gives it; strongest there, and no regions."""
    shape = case.source.volume.array_zyx.shape
    places = np.indices(shape).astype(np.float32)
    maps = []
    for number, (k, y, x) in enumerate(spots, start=1):
        away = (places[0] - k) ** 2 * 50 + (places[1] - y) ** 2 + (places[2] - x) ** 2
        values = np.exp(-away / 8).astype(np.float32) * 0.3 - 0.1
        maps.append(HeatMap("image", values, SALIENCY, ONE, f"Map {number}"))
    result = marked(shape)
    return replace(result, marks=(), heat_maps=tuple(maps))


def test_a_heat_map_without_regions_is_outlined_where_it_is_strongest(case: Case) -> None:
    depth, rows, columns = case.source.volume.array_zyx.shape
    result = spotted(case, (0, 5, 6), (depth - 1, rows - 4, columns - 3))
    (state,) = states_of(case, result)
    found = {item.GraphicLayer: item for item in state.GraphicAnnotationSequence}
    assert list(found) == ["AI_MAP_1", "AI_MAP_2"]
    for item, k, centre in ((found["AI_MAP_1"], 0, (5, 6)), (found["AI_MAP_2"], depth - 1, (rows - 4, columns - 3))):
        (image,) = item.ReferencedImageSequence
        assert image.ReferencedSOPInstanceUID == case.source.frames[k].sop_instance_uid
        points = np.array(item.GraphicObjectSequence[0].GraphicData).reshape(-1, 2)
        # Half of exp(-d²/8) is reached at 2.35 pixels: two to either side, and the pixel itself.
        middle = (points.min(0) + points.max(0)) / 2
        assert middle.tolist() == [centre[1] + 0.5, centre[0] + 0.5] and np.ptp(points, axis=0).tolist() == [5, 5]
        (text,) = item.TextObjectSequence
        assert "upper half of the map (not reviewed)" in text.UnformattedTextValue
    # A flat map shows nothing, and where regions are outlined the map behind them is not.
    first = result.heat_maps[0]
    flat = replace(result, heat_maps=(replace(first, values_zyx=np.zeros_like(first.values_zyx)),))
    assert not [r.role for r in case.rendered(flat, objects=("presentation",)) if r.role.startswith("presentation")]
    both = replace(case.result, heat_maps=result.heat_maps)
    assert not any(a.GraphicLayer.startswith("AI_MAP") for a in states_of(case, both)[0].GraphicAnnotationSequence)


@pytest.mark.parametrize("fault", ["moved", "missing", "another"])
def test_a_map_outlined_elsewhere_does_not_leave(case: Case, fault: str) -> None:
    result = spotted(case, (0, 5, 6))
    rendered = case.rendered(result, objects=("presentation",))
    elsewhere = spotted(case, (0, 6, 6)) if fault == "moved" else spotted(case, (0, 5, 6), (1, 5, 6))
    told = replace(elsewhere, heat_maps=()) if fault == "another" else elsewhere
    with pytest.raises((OverlayMismatch, ObjectInvalid), match="no map" if fault == "another" else "not outlined"):
        check(rendered, case.study, told, case.source)


def test_a_radiograph_s_map_reaches_a_viewer_as_an_outline(shared_data: Path) -> None:
    case = projection_case(shared_data / "cxr_dicom" / "RG1_J2KI.dcm")
    case = replace(case, source=replace(case.source, kind=Kind.PROJECTION))
    result = spotted(case, (0, 300, 420))
    both = case.rendered(result, objects=("presentation", "parametric_map"))
    check(both, case.study, result, case.source)
    # Its places are unknown, so no Parametric Map can be made.
    (state,) = [each.dataset for each in both if each.role == "presentation"]
    assert not [each.role for each in both if each.role.startswith("parametric_map")]
    (item,) = state.GraphicAnnotationSequence
    points = np.array(item.GraphicObjectSequence[0].GraphicData).reshape(-1, 2)
    assert ((points.min(0) + points.max(0)) / 2).tolist() == [420.5, 300.5]
