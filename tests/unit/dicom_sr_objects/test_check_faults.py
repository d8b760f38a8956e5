"""The check before sending must notice what can go wrong: each fault is put into a good set and has to be caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import EnhancedSRStorage

from dicom_sr.check import check
from dicom_sr.codes import item
from dicom_sr.document import RenderedObject, render
from dicom_sr.errors import ObjectInvalid, OverlayMismatch
from models.results import StudyResult
from tests.generators.results import not_assessed, nothing_found
from tests.unit.dicom_sr_objects.cases import Case, context

Objects = dict[str, Dataset]
Fault = Callable[[Objects, Case], None]
FAULTS: dict[str, Fault] = {}


def fault(function: Fault) -> Fault:
    FAULTS[function.__name__] = function
    return function


def groups(report: Dataset) -> list[Dataset]:
    measurements = next(c for c in report.ContentSequence if c.ConceptNameCodeSequence[0].CodeValue == "126010")
    return list(measurements.ContentSequence)


def child(container: Dataset, code: str) -> Dataset:
    return next(c for c in container.ContentSequence if c.ConceptNameCodeSequence[0].CodeValue == code)


def without(container: Dataset, *codes: str) -> None:
    kept = [c for c in container.ContentSequence if c.ConceptNameCodeSequence[0].CodeValue not in codes]
    container.ContentSequence = kept


@fault
def another_patient_id(objects: Objects, case: Case) -> None:
    objects["seg"].PatientID = "SOMEBODY-ELSE"


@fault
def another_patient_name(objects: Objects, case: Case) -> None:
    objects["measurements"].PatientName = "Other^Name"


@fault
def name_dropped(objects: Objects, case: Case) -> None:
    objects["text-en"].PatientName = ""


@fault
def sex_invented(objects: Objects, case: Case) -> None:
    objects["seg"].PatientSex = "F" if case.source.header.get("PatientSex") != "F" else "M"


@fault
def weight_invented(objects: Objects, case: Case) -> None:
    objects["text-ja"].PatientWeight = "71.5"


@fault
def another_study(objects: Objects, case: Case) -> None:
    objects["seg"].StudyInstanceUID = "2.25.1"


@fault
def another_accession_number(objects: Objects, case: Case) -> None:
    objects["text-en"].AccessionNumber = "X1"


@fault
def type_2_attribute_missing(objects: Objects, case: Case) -> None:
    del objects["measurements"].StudyID


@fault
def date_from_the_clock(objects: Objects, case: Case) -> None:
    objects["seg"].ContentDate = "20310101"


@fault
def other_character_set(objects: Objects, case: Case) -> None:
    objects["text-en"].SpecificCharacterSet = "ISO_IR 100"


@fault
def uid_of_a_source(objects: Objects, case: Case) -> None:
    objects["seg"].SOPInstanceUID = case.source.frames[0].sop_instance_uid


@fault
def uid_used_twice(objects: Objects, case: Case) -> None:
    objects["text-ja"].SOPInstanceUID = objects["text-en"].SOPInstanceUID


@fault
def invalid_uid(objects: Objects, case: Case) -> None:
    objects["seg"].SOPInstanceUID = "2.25.01"


@fault
def series_of_a_source(objects: Objects, case: Case) -> None:
    objects["seg"].SeriesInstanceUID = case.source.series_uid


@fault
def no_contributing_equipment(objects: Objects, case: Case) -> None:
    del objects["text-en"].ContributingEquipmentSequence


@fault
def no_device_uid(objects: Objects, case: Case) -> None:
    for entry in objects["seg"].ContributingEquipmentSequence:
        entry.pop("DeviceUID", None)


@fault
def no_software_version(objects: Objects, case: Case) -> None:
    del objects["measurements"].SoftwareVersions


@fault
def no_series_description(objects: Objects, case: Case) -> None:
    del objects["measurements"].SeriesDescription


@fault
def qualified_as_product(objects: Objects, case: Case) -> None:
    objects["seg"].ContentQualification = "PRODUCT"


@fault
def verified(objects: Objects, case: Case) -> None:
    objects["measurements"].VerificationFlag = "VERIFIED"


@fault
def final(objects: Objects, case: Case) -> None:
    objects["text-en"].PreliminaryFlag = "FINAL"


@fault
def partial(objects: Objects, case: Case) -> None:
    objects["text-en"].CompletionFlag = "PARTIAL"


@fault
def no_request(objects: Objects, case: Case) -> None:
    del objects["text-ja"].ReferencedRequestSequence


@fault
def no_template(objects: Objects, case: Case) -> None:
    del objects["measurements"].ContentTemplateSequence


@fault
def wrong_class_for_template(objects: Objects, case: Case) -> None:
    objects["text-en"].SOPClassUID = EnhancedSRStorage


@fault
def no_language(objects: Objects, case: Case) -> None:
    without(objects["text-ja"], "121049")


@fault
def wrong_language(objects: Objects, case: Case) -> None:
    child(objects["text-ja"], "121049").ConceptCodeSequence[0].CodeValue = "en"


@fault
def no_observer(objects: Objects, case: Case) -> None:
    without(objects["measurements"], "121012")


@fault
def warning_removed(objects: Objects, case: Case) -> None:
    text = child(child(objects["text-en"], "59776-5"), "121071")
    text.TextValue = text.TextValue.split("\r\n", 1)[1]


@fault
def text_of_another_result(objects: Objects, case: Case) -> None:
    text = child(child(objects["text-en"], "19005-8"), "121073")
    text.TextValue = text.TextValue.split("\r\n", 1)[0] + "\r\nNo infarct."


@fault
def tracking_uid_missing(objects: Objects, case: Case) -> None:
    without(groups(objects["measurements"])[0], "112040")


@fault
def tracking_uid_of_another_region(objects: Objects, case: Case) -> None:
    first, second = groups(objects["measurements"])[:2]
    child(first, "112040").UID = child(second, "112040").UID


@fault
def no_algorithm_at_a_number(objects: Objects, case: Case) -> None:
    number = child(groups(objects["measurements"])[0], "118565006")
    del number.ContentSequence


@fault
def group_without_its_segment(objects: Objects, case: Case) -> None:
    without(groups(objects["measurements"])[0], "121191")


@fault
def group_for_another_segment(objects: Objects, case: Case) -> None:
    child(groups(objects["measurements"])[0], "121191").ReferencedSOPSequence[0].ReferencedSegmentNumber = 7


@fault
def group_missing(objects: Objects, case: Case) -> None:
    container = child(objects["measurements"], "126010")
    container.ContentSequence = list(container.ContentSequence)[:1]


@fault
def wrong_volume(objects: Objects, case: Case) -> None:
    number = child(groups(objects["measurements"])[0], "118565006")
    number.MeasuredValueSequence[0].NumericValue = "1.5"


@fault
def wrong_code_meaning(objects: Objects, case: Case) -> None:
    child(groups(objects["measurements"])[0], "121071").ConceptCodeSequence[0].CodeMeaning = "Haemorrhage"


@fault
def unknown_code(objects: Objects, case: Case) -> None:
    objects["seg"].SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "000000"


@fault
def dangling_reference(objects: Objects, case: Case) -> None:
    child(groups(objects["measurements"])[0], "121233").ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "2.25.9"


@fault
def reference_of_another_class(objects: Objects, case: Case) -> None:
    reference = child(groups(objects["measurements"])[0], "121233").ReferencedSOPSequence[0]
    reference.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"


@fault
def evidence_incomplete(objects: Objects, case: Case) -> None:
    series = objects["measurements"].CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    series[0].ReferencedSOPSequence = list(series[0].ReferencedSOPSequence)[1:]


@fault
def instances_in_the_wrong_series(objects: Objects, case: Case) -> None:
    objects["seg"].ReferencedSeriesSequence[0].SeriesInstanceUID = "2.25.77"


@fault
def segment_not_automatic(objects: Objects, case: Case) -> None:
    objects["seg"].SegmentSequence[0].SegmentAlgorithmType = "MANUAL"


@fault
def segment_without_weights(objects: Objects, case: Case) -> None:
    algorithm = objects["seg"].SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    algorithm.AlgorithmParameters = "threshold=620"


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_caught(name: str, case: Case) -> None:
    rendered = case.rendered()
    FAULTS[name]({r.role: r.dataset for r in rendered}, case)
    with pytest.raises(ObjectInvalid) as caught:
        check(rendered, case.study, case.result, case.source)
    assert str(case.source.header.PatientName) not in str(caught.value)


OVERLAYS: dict[str, Fault] = {}


def overlay(function: Fault) -> Fault:
    OVERLAYS[function.__name__] = function
    return function


def frame(objects: Objects, n: int = 0) -> Dataset:
    return objects["seg"].PerFrameFunctionalGroupsSequence[n]


@overlay
def one_bit_flipped(objects: Objects, case: Case) -> None:
    content = bytearray(objects["seg"].PixelData)
    content[len(content) // 3] ^= 0x10
    objects["seg"].PixelData = bytes(content)


@overlay
def pixels_truncated(objects: Objects, case: Case) -> None:
    objects["seg"].PixelData = objects["seg"].PixelData[:-2]


@overlay
def frame_on_the_next_slice(objects: Objects, case: Case) -> None:
    position = frame(objects).PlanePositionSequence[0]
    position.ImagePositionPatient = frame(objects, 1).PlanePositionSequence[0].ImagePositionPatient


@overlay
def frame_moved_by_a_millimetre(objects: Objects, case: Case) -> None:
    position = frame(objects).PlanePositionSequence[0]
    position.ImagePositionPatient = [float(v) + 1.0 for v in position.ImagePositionPatient]


@overlay
def frame_of_reference_of_another_series(objects: Objects, case: Case) -> None:
    objects["seg"].FrameOfReferenceUID = "2.25.5"


@overlay
def orientation_mirrored(objects: Objects, case: Case) -> None:
    orientation = objects["seg"].SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    orientation.ImageOrientationPatient = [-float(v) for v in orientation.ImageOrientationPatient]


@overlay
def pixel_spacing_swapped(objects: Objects, case: Case) -> None:
    measures = objects["seg"].SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = list(reversed(measures.PixelSpacing))


@overlay
def slice_distance_from_a_careless_header(objects: Objects, case: Case) -> None:
    objects["seg"].SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = "5"


@overlay
def segments_swapped(objects: Objects, case: Case) -> None:
    for group in objects["seg"].PerFrameFunctionalGroupsSequence:
        identification = group.SegmentIdentificationSequence[0]
        identification.ReferencedSegmentNumber = 3 - identification.ReferencedSegmentNumber


@overlay
def source_of_another_slice(objects: Objects, case: Case) -> None:
    reference = frame(objects).DerivationImageSequence[0].SourceImageSequence[0]
    reference.ReferencedSOPInstanceUID = case.source.frames[0].sop_instance_uid


@overlay
def functional_group_missing(objects: Objects, case: Case) -> None:
    objects["seg"].PerFrameFunctionalGroupsSequence = list(objects["seg"].PerFrameFunctionalGroupsSequence)[:-1]


@overlay
def segment_missing(objects: Objects, case: Case) -> None:
    objects["seg"].SegmentSequence = list(objects["seg"].SegmentSequence)[:1]


@pytest.mark.parametrize("name", OVERLAYS)
def test_wrong_overlay_is_caught(name: str, case: Case) -> None:
    rendered = case.rendered()
    OVERLAYS[name]({r.role: r.dataset for r in rendered}, case)
    with pytest.raises(OverlayMismatch):
        check(rendered, case.study, case.result, case.source)


def test_frame_number_of_an_enhanced_source_is_checked(enhanced: Case) -> None:
    rendered = enhanced.rendered()
    check(rendered, enhanced.study, enhanced.result, enhanced.source)
    rendered = enhanced.rendered()
    group = rendered[0].dataset.PerFrameFunctionalGroupsSequence[0]
    reference = group.DerivationImageSequence[0].SourceImageSequence[0]
    reference.ReferencedFrameNumber = 1 + reference.ReferencedFrameNumber % len(enhanced.source.frames)
    with pytest.raises(OverlayMismatch):
        check(rendered, enhanced.study, enhanced.result, enhanced.source)


def test_mask_of_another_run_is_caught(case: Case) -> None:
    assert case.result.segmentation is not None
    shifted = np.roll(case.result.segmentation.mask_zyx, 1, axis=2)
    other = replace(case.result, segmentation=replace(case.result.segmentation, mask_zyx=shifted))
    with pytest.raises(OverlayMismatch):
        check(case.rendered(), case.study, other, case.source)


@pytest.mark.parametrize("result", [nothing_found(), not_assessed()], ids=lambda r: r.outcome)
def test_objects_of_another_outcome_are_caught(result: StudyResult, case: Case) -> None:
    with pytest.raises((ObjectInvalid, OverlayMismatch)):
        check(case.rendered(), case.study, result, case.source)


def test_two_objects_of_one_role_are_caught(case: Case) -> None:
    rendered = case.rendered()
    with pytest.raises(ObjectInvalid):
        check([*rendered, rendered[-1]], case.study, case.result, case.source)


def test_status_object_without_its_reason_is_caught(case: Case) -> None:
    result = not_assessed()
    rendered = render(result, case.study, context(), None)
    for section in ("59776-5", "19005-8"):
        texts = [e for e in child(rendered[0].dataset, section).ContentSequence if e.ValueType == "TEXT"]
        for entry in texts:
            entry.TextValue = entry.TextValue.replace("SUI-002", "")
    with pytest.raises(ObjectInvalid):
        check(rendered, case.study, result, None)


def test_negative_report_that_says_present_is_caught(case: Case) -> None:
    result = nothing_found()
    rendered = case.rendered(result)
    evaluation = child(groups(rendered[0].dataset)[0], "121052")
    evaluation.ConceptCodeSequence = [item(Code("52101004", "SCT", "Present"))]
    with pytest.raises(ObjectInvalid):
        check(rendered, case.study, result, case.source)


def test_whatever_is_read_back_is_what_is_written(case: Case) -> None:
    rendered: list[RenderedObject] = case.rendered()
    check(rendered, case.study, case.result, case.source)
    before = rendered[0].encoded
    rendered[0].dataset.PatientID = "changed after the check"
    assert rendered[0].encoded is before
