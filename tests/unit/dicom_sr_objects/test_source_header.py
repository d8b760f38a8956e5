"""What is taken over from careless headers, and what is left behind."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import config, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_sr.check import check
from dicom_sr.document import render
from dicom_sr.errors import SourceUnusable
from dicom_sr.header_gaps import header_gaps
from dicom_sr.moment import UNKNOWN, Moment, latest, valid_date, valid_time
from dicom_sr.source_header import normalise
from tests.generators.results import not_assessed
from tests.unit.dicom_sr_objects.cases import Case, context

DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "AcquisitionDateTime")


def damaged(case: Case, **changes: object) -> Case:
    """The case with attributes of every header replaced; None removes one."""
    headers = tuple(deepcopy(header) for header in case.study.headers)
    for header in headers:
        for keyword, value in changes.items():
            if value is None:
                header.pop(keyword, None)
            else:
                setattr(header, keyword, value)
    by_uid = {str(header.SOPInstanceUID): header for header in headers}
    study = replace(case.study, headers=headers, _by_uid=by_uid)
    source = replace(case.source, header=by_uid[str(case.source.header.SOPInstanceUID)])
    return replace(case, study=study, source=source)


def checked(case: Case) -> dict[str, Dataset]:
    """Objects of the case that passed the check, as a receiver reads them."""
    objects = case.rendered()
    check(objects, case.study, case.result, case.source)
    return {o.role: dcmread(BytesIO(o.encoded)) for o in objects}


@pytest.mark.parametrize(
    "keyword",
    [
        "PatientBirthDate",
        "PatientSex",
        "AccessionNumber",
        "StudyID",
        "StudyTime",
        "StudyDate",
        "ReferringPhysicianName",
    ],
)
def test_missing_type_2_attribute_becomes_empty(keyword: str, case: Case) -> None:
    for dataset in checked(damaged(case, **{keyword: None})).values():
        assert keyword in dataset
        assert not dataset.get(keyword)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientSex", "X"),
        ("PatientSex", "m"),
        ("PatientBirthDate", "00000000"),
        ("PatientBirthDate", "1950"),
        ("PatientBirthDate", "19500230"),
        ("StudyTime", "25"),
        ("StudyTime", "10:15"),
        ("StudyDate", "2024.01.05"),
    ],
)
def test_unparsable_value_is_emptied_not_guessed(keyword: str, value: str, case: Case) -> None:
    for dataset in checked(damaged(case, **{keyword: value})).values():
        assert not dataset.get(keyword)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("PatientWeight", "DS", b"0 "),
        ("PatientWeight", "DS", b"heavy "),
        ("PatientSize", "DS", b"-1.8"),
        ("PatientAge", "AS", b"old "),
        ("PatientBirthTime", "TM", b"25"),
        ("SmokingStatus", "CS", b"unknown?"),
    ],
)
def test_invalid_optional_attribute_is_dropped(keyword: str, vr: str, value: bytes, case: Case) -> None:
    broken = damaged(case)
    tag = Tag(keyword)
    for header in broken.study.headers:
        header._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)  # as read from a file
    for dataset in checked(broken).values():
        assert keyword not in dataset


def test_identity_is_never_repaired(case: Case) -> None:
    for dataset in checked(damaged(case, PatientID=" 00 12/Ä", StudyID="S" * 20)).values():
        assert dataset.PatientID == " 00 12/Ä"
        assert dataset.StudyID == "S" * 20


def test_nothing_private_and_no_unresolvable_references_are_copied(case: Case) -> None:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = "1.2.3", "1.2.4"
    broken = damaged(case, ReferencedStudySequence=[reference], ReferencedPatientSequence=[reference])
    for header in broken.study.headers:
        header.add_new(0x00090010, "LO", "VENDOR")
    for dataset in checked(broken).values():
        assert not any(element.tag.is_private for element in dataset)
        assert "ReferencedStudySequence" not in dataset
        assert "ReferencedPatientSequence" not in dataset


def test_order_attributes_come_from_the_images(case: Case) -> None:
    request = Dataset()
    request.RequestedProcedureID, request.ScheduledProcedureStepID = "RP-7", "SPS-7"
    request.RequestedProcedureDescription = "MR Schädel"
    objects = checked(damaged(case, RequestAttributesSequence=[request]))
    for role, dataset in objects.items():
        keyword = "RequestAttributesSequence" if role == "seg" else "ReferencedRequestSequence"
        assert dataset[keyword][0].RequestedProcedureID == "RP-7"
        assert dataset[keyword][0].RequestedProcedureDescription == "MR Schädel"
        assert dataset[keyword][0].AccessionNumber == case.source.header.AccessionNumber


def test_study_without_instances_is_refused(case: Case) -> None:
    with pytest.raises(SourceUnusable):
        normalise(replace(case.study, headers=()), None)


def test_source_without_frame_of_reference_gets_no_overlay(case: Case) -> None:
    with pytest.raises(SourceUnusable) as caught:
        damaged(case, FrameOfReferenceUID=None).rendered()
    assert caught.value.detail["attribute"] == "FrameOfReferenceUID"


def test_dates_are_the_latest_of_the_sources(case: Case) -> None:
    changed = damaged(case, AcquisitionDateTime="20280229235959.5+0900", ContentDate="20280228")
    for dataset in checked(changed).values():
        assert (dataset.ContentDate, dataset.ContentTime) == ("20280229", "235959.500000")
        assert "InstanceCreationDate" not in dataset


def test_without_any_date_type_1_gets_the_documented_one_and_the_rest_stays_away(case: Case) -> None:
    for dataset in checked(damaged(case, **dict.fromkeys(DATES))).values():
        assert (dataset.ContentDate, dataset.ContentTime) == (UNKNOWN.date, UNKNOWN.time)
        assert dataset.StudyDate == ""
        assert "SeriesDate" not in dataset
        assert not any("ContributionDateTime" in entry for entry in dataset.ContributingEquipmentSequence)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({}, Moment()),
        ({"StudyDate": "20240105"}, Moment("20240105", "000000.000000")),
        ({"StudyDate": "20240105", "StudyTime": "1015"}, Moment("20240105", "101500.000000")),
        ({"StudyDate": "20240105", "SeriesDate": "20240106", "SeriesTime": "9"}, Moment("20240106", "000000.000000")),
        ({"AcquisitionDateTime": "20240105"}, Moment("20240105", "000000.000000")),
        ({"AcquisitionDateTime": "rubbish", "ContentDate": "20239999"}, Moment()),
    ],
)
def test_latest_moment(header: dict[str, str], expected: Moment) -> None:
    dataset = Dataset()
    for keyword, value in header.items():
        vr = dictionary_VR(keyword)
        dataset.add(DataElement(keyword, vr, value, validation_mode=config.IGNORE))
    assert latest([dataset]) == expected


@pytest.mark.parametrize("text", ["", "2024010", "202401055", "20240230", "00000000", "20241301", "2024-1-1", None])
def test_not_a_date(text: str | None) -> None:
    assert valid_date(text) == ""


@pytest.mark.parametrize("text", ["", "24", "2460", "101560", "1.5", "1015.5", "10:15", None])
def test_not_a_time(text: str | None) -> None:
    assert valid_time(text) == ""


def test_real_names_in_every_character_set_pass_unharmed(shared_data: Path, case: Case) -> None:
    files = sorted((shared_data / "charsets").glob("*.dcm"))
    assert len(files) >= 5
    for path in files:
        original = dcmread(path)
        name, description = original.PatientName, str(original.get("StudyDescription", "") or "")
        named = damaged(case, PatientName=name, SpecificCharacterSet=original.get("SpecificCharacterSet", ""))
        result = not_assessed()
        objects = render(result, named.study, context(), None)
        check(objects, named.study, result, None)
        for rendered in objects:
            read = dcmread(BytesIO(rendered.encoded))
            assert read.SpecificCharacterSet == "ISO_IR 192"
            assert str(read.PatientName) == str(name)
            assert "\ufffd" not in str(read.PatientName)
            assert description is not None


def test_japanese_name_read_from_files_is_unicode_in_every_object(tmp_path: Path) -> None:
    from dicom_sr.phantom_study import JAPANESE_PATIENT
    from tests.unit.dicom_sr_objects.cases import phantom_case

    for dataset in checked(phantom_case(tmp_path, patient=JAPANESE_PATIENT)).values():
        assert str(dataset.PatientName) == "Yamada^Tarou=山田^太郎=やまだ^たろう"


def test_what_is_empty_and_should_not_be_is_told_without_a_value(case: Case) -> None:
    assert header_gaps(case.study) == ()
    headers = []
    for header in case.study.headers:
        other = deepcopy(header)
        del other.PatientID
        other.add(DataElement(0x00100030, "DA", "19xx0101", validation_mode=config.IGNORE))
        other.PatientSex = ""
        headers.append(other)
    study = replace(case.study, headers=tuple(headers))
    assert header_gaps(study) == ("PatientID (absent)", "PatientBirthDate (unreadable)")
    assert str(normalise(study, None).attributes.PatientID) == ""
