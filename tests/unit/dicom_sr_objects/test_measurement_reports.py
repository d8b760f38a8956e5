"""What TID 1500 reports say of regions, marks and findings, in each SOP class."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage

from dicom_sr.check import check
from dicom_sr.checks.subject import walk
from dicom_sr.errors import ObjectInvalid
from dicom_sr.graphics import mark_points
from models.results import Finding, Mark, MarkShape, StudyResult
from tests.generators.results import NODULE, marked, nothing_found
from tests.unit.dicom_sr_objects.cases import Case, context
from tests.unit.dicom_sr_objects.test_check_faults import child, groups

MARKS, FINDINGS = "measurements-marks", "measurements-findings"


def reports_of(case: Case, result: StudyResult, **changes: object) -> dict[str, Dataset]:
    wanted = context(objects=("measurements",), **changes)
    rendered = case.rendered(result, objects=("measurements",), **changes)
    check(rendered, case.study, result, case.source, profile=wanted.profile)
    return {r.role: dcmread(BytesIO(r.encoded)) for r in rendered}


def template(group: Dataset) -> str:
    return str(group.ContentTemplateSequence[0].TemplateIdentifier)


@pytest.mark.parametrize(
    ("setting", "sop_class", "of_marks"),
    [
        ("comprehensive_3d", Comprehensive3DSRStorage, "1410"),
        ("comprehensive", ComprehensiveSRStorage, "1410"),
        ("enhanced", EnhancedSRStorage, "1501"),
    ],
)
def test_one_report_for_each_kind_of_group(setting: str, sop_class: str, of_marks: str, case: Case) -> None:
    reports = reports_of(case, case.complete, measurements=setting)
    assert [*reports] == ["seg", "measurements", MARKS, FINDINGS]
    kinds = {role: {template(g) for g in groups(r)} for role, r in reports.items() if role != "seg"}
    assert kinds == {"measurements": {"1411"}, MARKS: {of_marks}, FINDINGS: {"1501"}}
    assert {r.SOPClassUID for role, r in reports.items() if role != "seg"} == {sop_class}
    assert len({r.SeriesInstanceUID for role, r in reports.items() if role != "seg"}) == 1
    has_coordinates = any(entry.get("ValueType") == "SCOORD" for entry in walk(reports[MARKS]))
    assert has_coordinates == (setting != "enhanced")


def test_one_report_for_each_lesion(case: Case) -> None:
    assert case.result.segmentation is not None
    reports = reports_of(case, case.result, per_lesion=True)
    of_regions = [role for role in reports if role.startswith("measurements")]
    assert of_regions == [f"measurements-{region.number}" for region in case.result.segmentation.regions]
    assert all(len(groups(reports[role])) == 1 for role in of_regions)


def test_uncertainty_is_the_distance_to_both_bounds_in_the_same_unit(case: Case) -> None:
    assert case.result.segmentation is not None
    number = child(groups(reports_of(case, case.complete)["measurements"])[0], "118565006")
    value = float(number.MeasuredValueSequence[0].NumericValue)
    assert value == pytest.approx(case.result.segmentation.regions[0].volume_ml, rel=1e-6)
    for name, factor in (("371886008", 0.25), ("371885007", 0.1)):
        measured = child(number, name).MeasuredValueSequence[0]
        assert float(measured.NumericValue) == pytest.approx(value * factor, rel=1e-5)
        assert measured.MeasurementUnitsCodeSequence[0].CodeValue == "mL"
    assert any("threshold sweep" in str(entry.get("TextValue", "")) for entry in walk(number))


def test_box_polygon_and_point_lie_where_the_model_put_them(case: Case) -> None:
    depth, rows, columns = case.source.volume.array_zyx.shape
    marks = groups(reports_of(case, case.complete)[MARKS])
    box, polygon, point = (child(group, "111030") for group in marks)
    y, x = rows / 4 + 0.5, columns / 3 + 0.5
    corners = np.array(box.GraphicData).reshape(-1, 2)
    assert corners == pytest.approx(
        np.array([[x, y], [2 * x - 0.5, y], [2 * x - 0.5, 2 * y - 0.5], [x, 2 * y - 0.5], [x, y]]), abs=1e-4
    )
    assert np.array(polygon.GraphicData).reshape(-1, 2)[1] == pytest.approx([2 * x - 0.5, 2 * y - 0.5], abs=1e-4)
    assert list(point.GraphicData) == pytest.approx([x + 0.5, y + 0.25], abs=1e-4)
    assert [region.GraphicType for region in (box, polygon, point)] == ["POLYLINE", "POLYLINE", "POINT"]
    named = [c.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for r in (box, polygon) for c in r.ContentSequence]
    assert named == [case.source.frames[k].sop_instance_uid for k in (depth // 2, depth - 1)]


def test_marks_on_an_enhanced_image_name_their_frame(enhanced: Case) -> None:
    for group, mark in zip(
        groups(reports_of(enhanced, enhanced.complete)[MARKS]), enhanced.complete.marks, strict=True
    ):
        (image,) = child(group, "111030").ContentSequence
        expected = enhanced.source.frames[mark.slice_index].frame_number
        assert image.ReferencedSOPSequence[0].ReferencedFrameNumber == expected


def test_a_finding_states_probability_operating_point_and_verdict(case: Case) -> None:
    without, point_less = groups(reports_of(case, case.complete)[FINDINGS])
    number = child(without, "122157")
    assert float(number.MeasuredValueSequence[0].NumericValue) == pytest.approx(0.12)
    assert "operating_point=0.35" in [entry.get("TextValue") for entry in walk(number)]
    assert child(without, "121052").ConceptCodeSequence[0].CodeMeaning == "Absent"
    assert child(point_less, "121052").ConceptCodeSequence[0].CodeMeaning == "Present"
    assert not any("operating_point" in str(entry.get("TextValue", "")) for entry in walk(point_less))


def test_nothing_found_keeps_its_findings_apart_from_the_absence(case: Case) -> None:
    result = replace(nothing_found(), findings=(Finding(NODULE, 0.1, 0.5, False),))
    reports = reports_of(case, result)
    assert [*reports] == ["measurements", FINDINGS]


def test_a_result_of_marks_alone_needs_no_segmentation(case: Case) -> None:
    result = marked(case.source.volume.array_zyx.shape)
    assert [*reports_of(case, result)] == [MARKS, FINDINGS]
    assert result.grid_role == "image"


@pytest.mark.parametrize(
    "change",
    [
        {"probability": 1.2},
        {"probability": float("nan")},
    ],
)
def test_a_probability_that_is_none_is_refused(change: dict, case: Case) -> None:
    finding = replace(case.complete.findings[0], **change)
    with pytest.raises(ObjectInvalid):
        case.rendered(replace(case.complete, findings=(finding,)))


def test_an_interval_without_its_value_is_refused(case: Case) -> None:
    mark = case.complete.marks[0]
    quantity = replace(mark.quantities[0], interval=(20.0, 30.0))
    with pytest.raises(ObjectInvalid):
        case.rendered(replace(case.complete, marks=(replace(mark, quantities=(quantity,)),)))


def test_marks_on_another_input_than_the_regions_are_refused(case: Case) -> None:
    marks = tuple(replace(mark, role="adc") for mark in case.complete.marks)
    with pytest.raises(ObjectInvalid):
        case.rendered(replace(case.complete, marks=marks))


@pytest.mark.parametrize(
    ("shape", "points", "expected"),
    [
        (MarkShape.BOX, ((-3.0, 2.0), (4.0, 99.0)), [[2.5, 0], [20, 0], [20, 4.5], [2.5, 4.5], [2.5, 0]]),
        (MarkShape.BOX, ((4.0, 2.0), (1.0, 1.0)), [[1.5, 1.5], [2.5, 1.5], [2.5, 4.5], [1.5, 4.5], [1.5, 1.5]]),
        (MarkShape.POINT, ((-0.5, -0.5),), [[0, 0]]),
        (MarkShape.POINT, ((-0.6, 3.0),), None),
        (MarkShape.POINT, ((1.0, 1.0), (2.0, 2.0)), None),
        (MarkShape.BOX, ((-9.0, 2.0), (-5.0, 8.0)), None),
        (MarkShape.POLYGON, ((1.0, 1.0), (2.0, 2.0)), None),
        (MarkShape.POLYGON, ((1.0, 1.0), (2.0, float("inf")), (3.0, 1.0)), None),
    ],
)
def test_points_are_cut_at_the_edge_or_refused(
    shape: MarkShape, points: tuple[tuple[float, float], ...], expected: list[list[float]] | None
) -> None:
    mark = Mark("image", shape, 0, points, "x")
    if expected is None:
        with pytest.raises(ObjectInvalid):
            mark_points(mark, 10, 20)
    else:
        assert mark_points(mark, 10, 20).tolist() == expected
