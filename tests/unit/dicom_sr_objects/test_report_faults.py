"""The check before sending must notice faults in reports, key object selections and presentation states too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicom_sr.check import check
from dicom_sr.checks.subject import walk
from dicom_sr.codes import item
from dicom_sr.errors import ObjectInvalid
from dicom_sr.profile import Profile
from tests.unit.dicom_sr_objects.cases import REPORTS, Case, context
from tests.unit.dicom_sr_objects.test_check_faults import child, groups, without

Objects = dict[str, Dataset]
Fault = Callable[[Objects], None]
FAULTS: dict[str, Fault] = {}

MARKS, FINDINGS = "measurements-marks", "measurements-findings"


def fault(function: Fault) -> Fault:
    FAULTS[function.__name__] = function
    return function


def region(objects: Objects, n: int = 0) -> Dataset:
    return child(groups(objects[MARKS])[n], "111030")


# Measurements


@fault
def mark_moved_by_a_pixel(objects: Objects) -> None:
    data = list(region(objects).GraphicData)
    region(objects).GraphicData = [value + 1.0 for value in data]


@fault
def rows_and_columns_of_a_mark_swapped(objects: Objects) -> None:
    data = list(region(objects, 1).GraphicData)
    region(objects, 1).GraphicData = [data[n ^ 1] for n in range(len(data))]


@fault
def mark_left_open(objects: Objects) -> None:
    region(objects).GraphicData = list(region(objects).GraphicData)[:-2]


@fault
def mark_outside_of_its_image(objects: Objects) -> None:
    region(objects, 2).GraphicData = [5000.0, 1.0]


@fault
def mark_on_another_image(objects: Objects) -> None:
    (theirs,) = (c for c in region(objects, 1).ContentSequence if c.ValueType == "IMAGE")
    (ours,) = (c for c in region(objects, 0).ContentSequence if c.ValueType == "IMAGE")
    ours.ReferencedSOPSequence = theirs.ReferencedSOPSequence


@fault
def mark_missing(objects: Objects) -> None:
    container = child(objects[MARKS], "126010")
    container.ContentSequence = list(container.ContentSequence)[:-1]


@fault
def kinds_of_groups_mixed(objects: Objects) -> None:
    container = child(objects[MARKS], "126010")
    container.ContentSequence = [*container.ContentSequence, *groups(objects[FINDINGS])]


@fault
def two_marks_with_one_tracking_uid(objects: Objects) -> None:
    first, second = groups(objects[MARKS])[:2]
    child(first, "112040").UID = child(second, "112040").UID


@fault
def probability_as_percent(objects: Objects) -> None:
    number = child(groups(objects[FINDINGS])[0], "122157")
    number.MeasuredValueSequence[0].NumericValue = "12"


@fault
def probability_without_its_operating_point(objects: Objects) -> None:
    number = child(groups(objects[FINDINGS])[0], "122157")
    number.ContentSequence = [c for c in number.ContentSequence if "operating" not in str(c.get("TextValue", ""))]


@fault
def absent_finding_called_present(objects: Objects) -> None:
    child(groups(objects[FINDINGS])[0], "121052").ConceptCodeSequence = [item(Code("52101004", "SCT", "Present"))]


@fault
def findings_exchanged(objects: Objects) -> None:
    first, second = (child(group, "121071") for group in groups(objects[FINDINGS]))
    first.ConceptCodeSequence, second.ConceptCodeSequence = second.ConceptCodeSequence, first.ConceptCodeSequence


@fault
def interval_dropped(objects: Objects) -> None:
    number = child(groups(objects["measurements"])[0], "118565006")
    without(number, "371886008", "371885007")


@fault
def interval_s_words_wrong(objects: Objects) -> None:
    number = child(groups(objects["measurements"])[0], "118565006")
    (words,) = [each for each in walk(number) if str(each.get("TextValue", "")).startswith("interval=")]
    words.TextValue = words.TextValue.replace("interval=", "interval=9")


@fault
def interval_exchanged(objects: Objects) -> None:
    number = child(groups(objects["measurements"])[0], "118565006")
    upper, lower = child(number, "371886008"), child(number, "371885007")
    upper.ConceptNameCodeSequence, lower.ConceptNameCodeSequence = (
        lower.ConceptNameCodeSequence,
        upper.ConceptNameCodeSequence,
    )


@fault
def interval_in_another_unit(objects: Objects) -> None:
    number = child(child(groups(objects["measurements"])[0], "118565006"), "371886008")
    number.MeasuredValueSequence[0].MeasurementUnitsCodeSequence = [item(Code("1", "UCUM", "no units"))]


@fault
def other_number_wrong(objects: Objects) -> None:
    number = child(groups(objects["measurements"])[0], "113041")
    number.MeasuredValueSequence[0].NumericValue = "612.25"


@fault
def findings_report_missing(objects: Objects) -> None:
    del objects[FINDINGS]


# Key objects


@fault
def key_objects_rejected_instead(objects: Objects) -> None:
    title = item(Code("113001", "DCM", "Rejected for Quality Reasons"))
    objects["key_objects"].ConceptNameCodeSequence = [title]


@fault
def key_object_left_out(objects: Objects) -> None:
    content = list(objects["key_objects"].ContentSequence)
    objects["key_objects"].ContentSequence = content[:-1]
    series = objects["key_objects"].CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    gone = content[-1].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    series.ReferencedSOPSequence = [r for r in series.ReferencedSOPSequence if r.ReferencedSOPInstanceUID != gone]


@fault
def key_object_with_a_purpose(objects: Objects) -> None:
    objects["key_objects"].ContentSequence[-1].ConceptNameCodeSequence = [item(Code("260753009", "SCT", "Source"))]


@fault
def key_objects_unexplained(objects: Objects) -> None:
    without_description = [
        c
        for c in objects["key_objects"].ContentSequence
        if "ConceptNameCodeSequence" not in c or c.ConceptNameCodeSequence[0].CodeValue != "113012"
    ]
    objects["key_objects"].ContentSequence = without_description


# Presentation states


def annotation(objects: Objects, n: int = 0) -> Dataset:
    return objects["presentation"].GraphicAnnotationSequence[n]


@fault
def layer_not_defined(objects: Objects) -> None:
    annotation(objects).GraphicLayer = "OTHER"


@fault
def layer_without_colour(objects: Objects) -> None:
    del objects["presentation"].GraphicLayerSequence[0].GraphicLayerRecommendedDisplayCIELabValue


@fault
def outline_moved(objects: Objects) -> None:
    graphic = outline(objects)
    graphic.GraphicData = [value + 1.0 for value in graphic.GraphicData]


@fault
def outline_with_a_corner_cut(objects: Objects) -> None:
    graphic = outline(objects)
    graphic.GraphicData = list(graphic.GraphicData)[:2] + list(graphic.GraphicData)[4:]
    graphic.NumberOfGraphicPoints -= 1


@fault
def outline_missing(objects: Objects) -> None:
    state = objects["presentation"]
    kept = [a for a in state.GraphicAnnotationSequence if a.GraphicLayer != "AI_1"]
    state.GraphicAnnotationSequence = kept
    state.GraphicLayerSequence = [layer for layer in state.GraphicLayerSequence if layer.GraphicLayer != "AI_1"]


@fault
def outline_on_another_image(objects: Objects) -> None:
    first, *_, last = objects["presentation"].GraphicAnnotationSequence
    first.ReferencedImageSequence, last.ReferencedImageSequence = (
        last.ReferencedImageSequence,
        first.ReferencedImageSequence,
    )


@fault
def image_without_annotation(objects: Objects) -> None:
    state = objects["presentation"]
    state.GraphicAnnotationSequence = list(state.GraphicAnnotationSequence)[1:]


@fault
def label_without_warning(objects: Objects) -> None:
    annotation(objects).TextObjectSequence[0].UnformattedTextValue = "Infarct"


@fault
def label_beside_the_image(objects: Objects) -> None:
    annotation(objects).TextObjectSequence[0].BoundingBoxTopLeftHandCorner = [-40.0, 3.0]


@fault
def display_relative_units(objects: Objects) -> None:
    outline(objects).GraphicAnnotationUnits = "DISPLAY"


@fault
def black_turned_to_white(objects: Objects) -> None:
    objects["presentation"].PresentationLUTShape = "INVERSE"


@fault
def window_changed(objects: Objects) -> None:
    objects["presentation"].SoftcopyVOILUTSequence[0].WindowWidth = "17"


@fault
def displayed_area_cut(objects: Objects) -> None:
    objects["presentation"].DisplayedAreaSelectionSequence[0].DisplayedAreaBottomRightHandCorner = [10, 10]


@fault
def number_of_points_wrong(objects: Objects) -> None:
    outline(objects).NumberOfGraphicPoints += 1


def outline(objects: Objects) -> Dataset:
    """The first outline of the first region."""
    state = objects["presentation"]
    return next(a for a in state.GraphicAnnotationSequence if a.GraphicLayer == "AI_1").GraphicObjectSequence[0]


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_caught(name: str, case: Case) -> None:
    result, wanted = case.complete, context(objects=REPORTS)
    rendered = case.rendered(result, objects=REPORTS)
    objects = {r.role: r.dataset for r in rendered}
    FAULTS[name](objects)
    kept = [r for r in rendered if r.role in objects]
    with pytest.raises(ObjectInvalid):
        check(kept, case.study, result, case.source, profile=wanted.profile)


def test_without_a_fault_nothing_is_found(case: Case) -> None:
    rendered = case.rendered(case.complete, objects=REPORTS)
    check(rendered, case.study, case.complete, case.source)


@pytest.mark.parametrize(
    ("rendered_for", "checked_for"),
    [
        ({"character_set": "iso-2022-jp"}, {}),
        ({}, {"character_set": "iso-2022-jp"}),
        ({}, {"text_dialect": "flat"}),
    ],
)
def test_objects_of_another_profile_are_caught(rendered_for: dict, checked_for: dict, case: Case) -> None:
    rendered = case.rendered(**rendered_for)
    check(rendered, case.study, case.result, case.source, profile=Profile(**rendered_for))
    with pytest.raises(ObjectInvalid):
        check(rendered, case.study, case.result, case.source, profile=Profile(**checked_for))


def test_coordinates_in_an_enhanced_report_are_caught(case: Case) -> None:
    from pydicom.uid import EnhancedSRStorage

    rendered = case.rendered(case.complete, objects=("measurements",))
    for each in rendered:
        if each.role.startswith("measurements"):
            each.dataset.SOPClassUID = EnhancedSRStorage
    with pytest.raises(ObjectInvalid):
        check(rendered, case.study, case.complete, case.source)
